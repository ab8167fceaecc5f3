use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "Property; drop table", table = "properties")]
struct Property {
    reference: Option<String>,
}

fn main() {}
