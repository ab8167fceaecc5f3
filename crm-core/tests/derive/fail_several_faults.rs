use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(prefix = "a_")]
    reference: Option<String>,
    #[field(required, default = "x")]
    title: String,
    #[field(max_len = "long")]
    text: Option<String>,
}

fn main() {}
