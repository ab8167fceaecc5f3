use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(table = "properties")]
struct Property {
    reference: Option<String>,
}

fn main() {}
