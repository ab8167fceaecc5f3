//! Scores the leads of any CSV file by rules in a file, and tells what another rule set would change:
//!
//! ```text
//! cargo run --example lead_scoring
//! cargo run --release --example lead_scoring -- leads.csv --map map.json --rules rules.json \
//!     --draft draft.json --explain ada@globex.example
//! ```
//!
//! Without arguments it takes the files in `data` beside it. A mapping is that of the importer; a rule
//! set is one JSON object with the fields of `LeadScoringRuleSet` and, as `rules`, a list of objects
//! with the fields of `LeadScoringRule`. Everything is kept in memory, unless `--postgres` names a
//! database: there leads are found again by their e-mail address, so that it may run again.
//! The exit code is 1 if rows of the file were refused.

mod arguments;
mod print;
#[path = "../shared/mod.rs"]
mod shared;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crm_engine::exchange::import::{Import, ImportExt, Mapping, ReadOptions, Source};
use crm_engine::imports::{ImportCounts, ImportMode};
use crm_engine::prelude::*;
use crm_engine::query::Sort;
use serde_json::{Map, Value as Json, json};

use arguments::{Arguments, USAGE};
use shared::{Failure, open, read_mapping};

#[tokio::main]
async fn main() -> ExitCode {
    let parse = |arguments| Arguments::parse(arguments);
    shared::run("lead_scoring", USAGE, parse, run).await
}

/// Does all of it, and gives the number of rows that were refused.
async fn run(arguments: &Arguments) -> Result<i64, Failure> {
    let session = open(arguments.postgres.as_deref(), &arguments.tenant).await?;
    let counts = import(arguments, &session).await?;
    println!(
        "{} rows: {} leads created, {} updated, {} as they were, {} skipped, {} refused",
        counts.processed_rows,
        counts.created_rows,
        counts.updated_rows,
        counts.unchanged_rows,
        counts.skipped_rows,
        counts.failed_rows
    );
    if counts.failed_rows > 0 {
        eprintln!("lead_scoring: the example import_csv tells why rows are refused");
    }

    let draft = create(&session, &arguments.rules).await?;
    let published = session.scoring_rule_sets().publish(draft.id).await?;
    let done = session.leads().rescore_all(&()).await?;
    let rules = session.scoring_rule_sets().rules(published.id).await?;
    println!(
        "\"{}\" is published with {} rules: {} of {} leads have another score, {} another grade",
        published.name,
        rules.len(),
        done.changed,
        done.checked,
        done.regraded
    );
    let by_score = Aggregate::<Lead>::new().group_by(Lead::LEAD_SCORE).count();
    print::histogram(&session.leads().aggregate(by_score).await?);
    let by_grade = Aggregate::<Lead>::new().group_by(Lead::GRADE).count();
    print::grades(&session.leads().aggregate(by_grade).await?);

    if let Some(lead) = explained(arguments, &session).await? {
        let told = session.leads().explain(lead.id).await?;
        print::explanation(&lead, &told);
    }

    if let Some(path) = &arguments.draft {
        let draft = create(&session, path).await?;
        let told = session
            .scoring_rule_sets()
            .simulate(draft.id, Filter::And(Vec::new()), arguments.listed, &())
            .await?;
        let ids: Vec<Id<Lead>> = told.leads.iter().map(|lead| lead.lead).collect();
        let leads = session.leads().get_all(&ids).await?;
        print::simulation(&draft.name, &told, &leads);
    }
    Ok(counts.failed_rows)
}

/// The leads of the file.
async fn import(arguments: &Arguments, session: &Session) -> Result<ImportCounts, Failure> {
    let source = Source::file(&arguments.leads);
    let importer = session.import();
    let mapping: Mapping = match &arguments.map {
        Some(path) => read_mapping(path)?,
        None => {
            let read = ReadOptions::default();
            importer.preview("lead", &source, &read).await?.mapping
        }
    };
    if mapping.object != "lead" {
        return Err("the mapping is not one of leads".into());
    }
    let email = Lead::EMAIL.name();
    let by_email = mapping.columns.iter().any(|column| column.field == email);
    // In memory there is nothing to find again.
    let import = if by_email && arguments.postgres.is_some() {
        Import {
            mode: ImportMode::Upsert,
            keys: vec![email.into_owned()],
            ..Import::new(mapping)
        }
    } else {
        Import::new(mapping)
    };
    let job = importer.start(&source, &import).await?;
    Ok(importer.run(job.id, &source, &()).await?.counts)
}

fn read(path: &Path) -> Result<Json, Failure> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{place}: {error}"))?)
}

/// Makes a draft of the rule set in a file, with all its rules or not at all.
async fn create(
    session: &Session,
    path: &Path,
) -> Result<Arc<Record<LeadScoringRuleSet>>, Failure> {
    let place = path.display();
    let Json::Object(mut set) = read(path)? else {
        return Err(format!("{place}: must be a JSON object").into());
    };
    let rules = match set.remove("rules") {
        Some(Json::Array(rules)) => rules,
        _ => return Err(format!("{place}: `rules` must be a list").into()),
    };
    let mut objects = Vec::with_capacity(rules.len());
    for rule in rules {
        match rule {
            Json::Object(rule) => objects.push(rule),
            _ => return Err(format!("{place}: each of the `rules` must be a JSON object").into()),
        }
    }
    free_name(session, &mut set).await?;
    let failed = |error: Error| format!("{place}: {error}");
    let mut work = session.begin();
    let made = work.scoring_rule_sets().create_json(&set).await;
    let made = made.map_err(failed)?;
    for (number, mut rule) in objects.into_iter().enumerate() {
        rule.insert("rule_set_id".to_owned(), json!(made.id.uuid()));
        let rule = work.scoring_rules().create_json(&rule).await;
        rule.map_err(|error| format!("{place}: rule {}: {error}", number + 1))?;
    }
    work.commit().await.map_err(failed)?;
    Ok(made)
}

/// Numbers the name of a set where the tenant has one of that name from an earlier run.
async fn free_name(session: &Session, set: &mut Map<String, Json>) -> Result<(), Failure> {
    let Some(name) = set.get("name").and_then(Json::as_str).map(str::to_owned) else {
        return Ok(());
    };
    let (mut free, mut number) = (name.clone(), 1);
    let sets = session.scoring_rule_sets();
    while sets
        .count(LeadScoringRuleSet::NAME.eq(free.as_str()))
        .await?
        > 0
    {
        number += 1;
        free = format!("{name} ({number})");
    }
    set.insert("name".to_owned(), json!(free));
    Ok(())
}

/// The lead whose score is explained: the one that was asked for, or the one with the best score.
async fn explained(
    arguments: &Arguments,
    session: &Session,
) -> Result<Option<Arc<Record<Lead>>>, Failure> {
    let Some(email) = &arguments.explain else {
        let best = Find::new()
            .sort(Sort::desc(Lead::LEAD_SCORE.name()))
            .limit(1);
        return Ok(session.leads().find(best).await?.items.into_iter().next());
    };
    let email: EmailAddress = email.parse()?;
    match session.leads().find_one(Lead::EMAIL.eq(email)).await? {
        Some(lead) => Ok(Some(lead)),
        None => Err("no lead has the e-mail address that `--explain` names".into()),
    }
}
