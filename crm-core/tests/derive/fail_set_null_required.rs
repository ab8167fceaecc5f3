use crm_core::Id;
use crm_core::accounts::Account;
use crm_core::schema::Entity;

#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    #[field(required, references = "account", on_delete = "set_null")]
    seller_id: Id<Account>,
}

fn main() {}
