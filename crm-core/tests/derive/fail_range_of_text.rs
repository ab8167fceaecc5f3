use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(min = 1)]
    reference: Option<String>,
}

fn main() {}
