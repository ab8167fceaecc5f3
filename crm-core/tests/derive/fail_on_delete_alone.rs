use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(on_delete = "cascade")]
    reference: Option<String>,
}

fn main() {}
