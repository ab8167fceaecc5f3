//! Makes a migrated database that nobody else uses, and prints its URL for the owner of its tables.

use std::error::Error;

use crm_test_postgres::Database;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    println!("{}", Database::fresh(&[])?.owner_url());
    Ok(())
}
