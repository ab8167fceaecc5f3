//! Starts a throwaway PostgreSQL cluster, prints its URL and its data directory, and keeps it until standard input ends.

use std::error::Error;
use std::io::{Write, stdin, stdout};

use crm_test_postgres::Server;

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(&[])?;
    let data = server
        .data_directory()
        .ok_or("a started server has a data directory")?;
    println!("{}\n{}", server.url(), data.display());
    stdout().flush()?;
    std::io::copy(&mut stdin(), &mut std::io::sink())?;
    Ok(())
}
