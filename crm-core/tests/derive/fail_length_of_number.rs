use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(max_len = 20)]
    rooms: Option<i32>,
}

fn main() {}
