//! Text search: which records a backend names.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::fixtures::bare;
use super::harness::{Bench, deletion, row};
use super::objects::Specimen;
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::query::TextSearch;
use crate::schema::{Entity, Row};

const NAMES: [&str; 9] = [
    "Ada Lovelace",
    "Élodie Müller-Lüdenscheidt",
    "ada@analytical.example",
    "O'Neill 42",
    "adamant ADA",
    "ΟΔΟΣ Ελλάς",
    "https://crm.example/path?q=1_5",
    "-- % _ \\ ' \" \u{1f600}",
    "x1y2 1.5",
];

async fn filled(h: &Harness) -> Outcome<(Bench, Vec<Row>)> {
    let bench = h.bench();
    let rows: Vec<Row> = NAMES.iter().map(|name| row(bare(name))).collect();
    bench.insert(rows.clone()).await?;
    Ok((bench, rows))
}

async fn named(bench: &Bench, text: &str, limit: usize) -> Outcome<Vec<Uuid>> {
    let search = TextSearch::new(Specimen::schema(), text, limit);
    Ok(bench.storage().search(&bench.scope, &search).await?)
}

pub(super) async fn search_words(h: &Harness) -> Outcome {
    let (bench, rows) = filled(h).await?;
    for text in [
        "ada",
        "ADA love",
        "elo",
        "muller lu",
        "Müller-Lüdenscheidt",
        "example",
        "ada@analytical.exam",
        "o'n",
        "42",
        "οδος",
        "οδοσ ελλασ",
        "path 1 5",
        "x1y",
        "5",
        "dam",
        "",
        "%",
        "ada' | 'x",
        "ada \\",
        "(ada) & !x:*",
    ] {
        let search = TextSearch::new(Specimen::schema(), text, 50);
        let wanted = rows.iter().filter(|row| search.rank(&***row).is_some());
        let wanted: BTreeSet<Uuid> = wanted.map(|row| row.id()).collect();
        // A backend may name more; whoever asked looks at the records.
        let found = named(&bench, text, 50).await?.into_iter();
        let found: BTreeSet<Uuid> = found.filter(|id| wanted.contains(id)).collect();
        ensure_eq!(found, wanted, "the records in which {text:?} is found");
    }
    Ok(())
}

pub(super) async fn search_own_live_records(h: &Harness) -> Outcome {
    let (bench, rows) = filled(h).await?;
    let (other, _) = filled(h).await?;
    let own: BTreeSet<Uuid> = rows.iter().map(|row| row.id()).collect();
    let found = named(&bench, "ada", 50).await?;
    ensure!(
        found.iter().all(|id| own.contains(id)),
        "a search names records of another tenant"
    );
    ensure_eq!(
        named(&bench, "ada", 2).await?.len(),
        2,
        "how many records come where two are asked for"
    );
    let Some(first) = rows.first() else {
        return Ok(());
    };
    bench.apply(vec![deletion(first)]).await?;
    ensure!(
        !named(&bench, "ada", 50).await?.contains(&first.id()),
        "a search names a deleted record"
    );
    ensure_eq!(
        named(&other, "lovelace", 50).await?.len(),
        1,
        "the records of the other tenant"
    );
    Ok(())
}
