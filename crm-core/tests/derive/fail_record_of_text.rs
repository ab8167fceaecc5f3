use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "remark", table = "remarks")]
struct Remark {
    object: Option<String>,
    #[field(record_of = "object")]
    record_id: Option<String>,
}

fn main() {}
