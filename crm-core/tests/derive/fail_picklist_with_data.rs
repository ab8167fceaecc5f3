use crm_core::schema::Picklist;

#[derive(Clone, Copy, Debug, PartialEq, Picklist)]
enum Size {
    Small,
    Other(u8),
}

fn main() {}
