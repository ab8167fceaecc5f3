use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(maximum = 20)]
    reference: Option<String>,
}

fn main() {}
