use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    version: Option<i64>,
}

fn main() {}
