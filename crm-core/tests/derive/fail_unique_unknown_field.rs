use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties", unique(refrence))]
struct Property {
    reference: Option<String>,
}

fn main() {}
