use crm_core::schema::Entity;
use uuid::Uuid;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "remark", table = "remarks")]
struct Remark {
    object: Option<String>,
    #[field(record_of = "objekt")]
    record_id: Option<Uuid>,
}

fn main() {}
