use crm_core::accounts::Account;
use crm_core::schema::{Entity, FieldGroup, MergeRule, Picklist};
use crm_core::{Id, error::Faults};

#[derive(Clone, Copy, Debug, Default, PartialEq, Picklist)]
enum Size {
    #[default]
    Small,
    #[option("XL")]
    ExtraLarge,
}

#[derive(Clone, PartialEq, FieldGroup)]
struct Plot {
    #[field(min = 1)]
    width: Option<i32>,
    #[field(min = 1)]
    depth: Option<i32>,
}

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties", unique(reference; ignore_case, live),
         index(seller_id, created_at), check = check)]
struct Property {
    #[field(required, max_len = 20)]
    reference: String,
    #[field(references = "account", on_delete = "set_null")]
    seller_id: Option<Id<Account>>,
    #[field(flatten, prefix = "plot_")]
    plot: Option<Plot>,
    size: Size,
    #[field(sensitive)]
    alarm_code: Option<String>,
    about_object: Option<String>,
    #[field(record_of = "about_object")]
    about_id: Option<uuid::Uuid>,
    #[field(merge = "any")]
    do_not_show: bool,
}

fn check(_property: &Property, _faults: &mut Faults) {}

fn main() {
    let mut property = Property::new("B-17");
    property.alarm_code = Some("4711".into());
    assert!(!format!("{property:?}").contains("4711"));
    assert_eq!(Property::schema().field("plot_width").unwrap().label(), "Plot width");
    let schema = Property::schema();
    let link = schema.record_links()[0];
    assert_eq!(schema.field_name(link.id), "about_id");
    assert_eq!(schema.field_name(link.object), "about_object");
    assert_eq!(schema.field("plot_depth").unwrap().group.as_deref(), Some("plot_width"));
    assert_eq!(schema.field("do_not_show").unwrap().merge, MergeRule::Any);
    assert_eq!(Size::ExtraLarge.as_str(), "XL");
}
