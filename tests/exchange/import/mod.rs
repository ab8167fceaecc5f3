//! Importing files (C-004, R-077, B-39): modes, faults, mapping, encodings, references, duplicates,
//! cancelling, resuming, reverting, and that a dry run says what a run does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod jobs;
mod keys;
mod likeness;
mod properties;

use std::ops::ControlFlow;

use crate::common::{crm, rows_of, tenant};
use crm_engine::exchange::import::{
    ColumnMapping, EmptyCell, Import, ImportError, ImportExt, Lookup, Mapping, Outcome,
    ReadOptions, Source,
};
use crm_engine::imports::{
    DuplicateHandling, ImportCounts, ImportJob, ImportMode, ImportPhase, ImportRow, ImportStatus,
    RowOutcome, RowResult,
};
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

fn csv(text: &str) -> Source {
    Source::bytes("test.csv", text.as_bytes().to_vec())
}

fn contacts() -> Mapping {
    Mapping::new("contact")
        .column("First", "first_name")
        .column("Last", "last_name")
        .column("Mail", "email")
        .column("Title", "job_title")
}

fn upsert(mapping: Mapping, key: &str) -> Import {
    Import {
        mode: ImportMode::Upsert,
        keys: vec![key.into()],
        ..Import::new(mapping)
    }
}

/// Starts a job and runs it.
async fn run(session: &Session, source: &Source, import: &Import) -> (Id<ImportJob>, Outcome) {
    let job = session.import().start(source, import).await.unwrap();
    assert_eq!(job.status, ImportStatus::Pending, "R-449");
    let done = session.import().run(job.id, source, &()).await.unwrap();
    (job.id, done)
}

/// Created, updated, unchanged, skipped, failed.
fn figures(counts: &ImportCounts) -> [i64; 5] {
    let ImportCounts {
        created_rows,
        updated_rows,
        unchanged_rows,
        skipped_rows,
        failed_rows,
        ..
    } = *counts;
    [
        created_rows,
        updated_rows,
        unchanged_rows,
        skipped_rows,
        failed_rows,
    ]
}

async fn entries(session: &Session, job: Id<ImportJob>) -> Vec<ImportRow> {
    let rows = rows_of(session, "import_row").await;
    let mut rows: Vec<ImportRow> = rows
        .into_iter()
        .filter_map(Record::<ImportRow>::from_row)
        .filter(|row| row.job_id == job)
        .map(|row| row.data.clone())
        .collect();
    rows.sort_by_key(|row| (row.row_number, row.place));
    rows
}

fn codes(row: &ImportRow) -> Vec<(Option<String>, String)> {
    let faults = row.row_faults().into_iter();
    faults.map(|fault| (fault.column, fault.code)).collect()
}

#[tokio::test]
async fn good_rows_land_and_bad_ones_are_told_with_the_reason_for_each_cell() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = csv("First,Last,Mail,Title\n\
        Ada,Lovelace,ada@x.example,Analyst\n\
        Grace,Hopper,not an address,\n\
        ,,grace@x.example,\n\
        Too,many,cells@x.example,here,there\n\
        Hank,Scorpio,hank@x.example,\n");
    let (job, done) = run(&session, &source, &Import::new(contacts())).await;
    assert_eq!(done.status, ImportStatus::Completed);
    assert_eq!(figures(&done.counts), [2, 0, 0, 0, 3]);
    let rows = entries(&session, job).await;
    let numbers: Vec<i64> = rows.iter().map(|row| row.row_number).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
    assert_eq!(
        codes(&rows[1]),
        [(Some("Mail".into()), "invalid_email".into())]
    );
    let required = |column: &str| (Some(column.to_owned()), "required".to_owned());
    assert_eq!(codes(&rows[2]), [required("First"), required("Last")]);
    assert_eq!(codes(&rows[3]), [(None, "ragged_row".into())]);
    let stored =
        serde_json::to_string(&rows_of(&session, "import_row").await[1].to_json()).unwrap();
    assert!(
        !stored.contains("not an address"),
        "no value is kept: {stored}"
    );

    // Who wrote it is told by the record and its trail.
    let ada = session
        .contacts()
        .find_one(Contact::EMAIL.eq("ada@x.example".parse::<EmailAddress>().unwrap()))
        .await;
    let ada = ada.unwrap().unwrap();
    assert_eq!(ada.created.by, Actor::Import(job.uuid()));
    assert_eq!(session.audit().trail(ada.id).await.unwrap().len(), 1);
    let record = session.records::<ImportJob>().get(job).await.unwrap();
    assert_eq!(record.created.by, session.actor());

    // The bad rows come back as a file; mended, they land.
    let mut file = Vec::new();
    let count = session
        .import()
        .write_errors(job, &source, &mut file)
        .await
        .unwrap();
    assert_eq!(count, 3);
    let text = String::from_utf8(file).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("Mail: "), "{text}");
    let mended = text.replace("not an address", "grace.h@x.example");
    let (_, again) = run(&session, &csv(&mended), &Import::new(contacts())).await;
    assert_eq!(again.counts.created_rows, 1);
}

#[tokio::test]
async fn an_upsert_that_is_repeated_changes_nothing() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = csv("First,Last,Mail,Title\n\
        Ada,Lovelace,ada@x.example,Analyst\n\
        Ada,King,ADA@x.example,Countess\n\
        Grace,Hopper,grace@x.example,\n\
        No,Key,,\n");
    let import = upsert(contacts(), "email");
    let (job, done) = run(&session, &source, &import).await;
    assert_eq!(figures(&done.counts), [2, 0, 0, 1, 1]);
    let rows = entries(&session, job).await;
    assert_eq!(rows[1].row_faults()[0].code, "duplicate_in_file");
    assert_eq!(rows[3].row_faults()[0].code, "required");
    let before = rows_of(&session, "contact").await;
    let (_, done) = run(&session, &source, &import).await;
    assert_eq!(figures(&done.counts), [0, 0, 2, 1, 1]);
    let after = rows_of(&session, "contact").await;
    let json =
        |rows: &[crm_engine::schema::Row]| rows.iter().map(|row| row.to_json()).collect::<Vec<_>>();
    assert_eq!(json(&before), json(&after));

    let changed = csv("First,Last,Mail,Title\nAda,Lovelace,ada@x.example,Countess\n");
    let (_, done) = run(&session, &changed, &import).await;
    assert_eq!(figures(&done.counts), [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn each_mode_does_with_known_and_unknown_records_what_it_says() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let known = Contact {
        email: Some("ada@x.example".parse().unwrap()),
        job_title: Some("Analyst".into()),
        ..Contact::named("Ada", "Lovelace")
    };
    let known = session.contacts().create(known).await.unwrap();
    let source = csv("First,Last,Mail,Title\nAda,King,ada@x.example,\nNew,One,new@x.example,\n");
    let with = |mode, duplicates| Import {
        mode,
        duplicates,
        keys: if mode == ImportMode::Create {
            vec![]
        } else {
            vec!["email".into()]
        },
        ..Import::new(contacts())
    };
    let update = with(ImportMode::Update, DuplicateHandling::Skip);
    let (_, done) = run(&session, &source, &update).await;
    assert_eq!(figures(&done.counts), [0, 1, 0, 0, 1]);
    let ada = session.contacts().get(known.id).await.unwrap();
    assert_eq!(ada.name.last_name.as_deref(), Some("King"));
    assert_eq!(
        ada.job_title.as_deref(),
        Some("Analyst"),
        "an empty cell leaves the field"
    );

    let refuse = with(ImportMode::Create, DuplicateHandling::Refuse);
    let (job, done) = run(&session, &source, &refuse).await;
    assert_eq!(figures(&done.counts), [1, 0, 0, 0, 1]);
    let rows = entries(&session, job).await;
    assert_eq!(codes(&rows[0]), [(Some("Mail".into()), "duplicate".into())]);
    let skip = with(ImportMode::Create, DuplicateHandling::Skip);
    let (job, done) = run(&session, &source, &skip).await;
    assert_eq!(figures(&done.counts), [0, 0, 0, 2, 0]);
    assert_eq!(
        entries(&session, job).await[0].record_id,
        Some(known.id.uuid())
    );

    let mut clearing = contacts();
    clearing.columns[3].empty = EmptyCell::Clear;
    let (_, done) = run(&session, &source, &upsert(clearing, "email")).await;
    assert_eq!(figures(&done.counts), [0, 1, 1, 0, 0]);
    let ada = session.contacts().get(known.id).await.unwrap();
    assert_eq!(ada.job_title, None);
}

#[tokio::test]
async fn references_are_found_by_name_mail_and_id_within_one_pipeline() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    for name in ["Globex", "Twin", "Twin"] {
        session.accounts().create(Account::new(name)).await.unwrap();
    }
    let second = session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await
        .unwrap();
    let mut stage = PipelineStage::new(second.id, "Qualification", 1_u32);
    stage.default_probability = "10".parse().unwrap();
    session
        .records::<PipelineStage>()
        .create(stage)
        .await
        .unwrap();
    let stage = session
        .records::<PipelineStage>()
        .get(acme.stages[1])
        .await
        .unwrap();
    let source = csv(&format!(
        "Deal;Amount;Company;Owner;Pipeline;Stage;Region\n\
        One;1.234,50;Globex;admin@acme.example;;{stage};North\n\
        Two;5,5;Twin;;;{stage};\n\
        Three;5;Nowhere;;;{stage};\n\
        Four;5;;nobody@acme.example;;{stage};\n\
        Five;7;;;Renewals;Qualification;\n",
        stage = stage.name
    ));
    let mut mapping = Mapping::new("deal")
        .column("Deal", "name")
        .column("Amount", "amount")
        .column("Company", "account_id")
        .column("Owner", "owner_id")
        .column("Stage", "stage_id")
        .column("Region", "custom_fields.region");
    mapping
        .columns
        .push(ColumnMapping::new("Pipeline", "pipeline_id"));
    mapping
        .constants
        .insert("pipeline_id".into(), json!(acme.pipeline.to_string()));
    mapping.constants.insert("currency".into(), json!("EUR"));
    let (job, done) = run(&session, &source, &Import::new(mapping)).await;
    let rows = entries(&session, job).await;
    assert_eq!(
        figures(&done.counts),
        [2, 0, 0, 0, 3],
        "{:?}",
        rows.iter().map(codes).collect::<Vec<_>>()
    );
    let at = |column: &str, code: &str| vec![(Some(column.to_owned()), code.to_owned())];
    assert_eq!(codes(&rows[1]), at("Company", "ambiguous"));
    assert_eq!(codes(&rows[2]), at("Company", "not_found"));
    assert_eq!(codes(&rows[3]), at("Owner", "not_found"));
    let one = session
        .deals()
        .get(Id::new(rows[0].record_id.unwrap()))
        .await
        .unwrap();
    assert_eq!(one.amount, Some("1234.5".parse().unwrap()));
    assert_eq!(one.owner_id, Some(acme.admin));
    assert_eq!(one.stage_id, Some(acme.stages[1]));
    assert_eq!(one.currency.to_string(), "EUR");
    assert_eq!(one.custom_fields, json!({"region": "North"}));
    let five = session
        .deals()
        .get(Id::new(rows[4].record_id.unwrap()))
        .await
        .unwrap();
    assert_eq!(five.pipeline_id, second.id);
}

#[tokio::test]
async fn missing_accounts_are_created_once_and_only_for_rows_that_land() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut mapping = contacts().column("Company", "account_id");
    mapping.columns[4].lookup = Some(Lookup {
        by: "name".into(),
        create_missing: true,
    });
    let source = csv("First,Last,Mail,Title,Company\n\
        Ada,L,a@x.example,,Globex\n\
        Bob,M,b@x.example,,Globex\n\
        Eve,N,bad,,Initech\n\
        Joe,O,j@x.example,,Umbrella\n");
    let import = Import {
        batch_size: 1,
        ..Import::new(mapping)
    };
    let trial = session
        .import()
        .dry_run(&source, &import, &(), &mut |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        rows_of(&session, "account").await.len(),
        0,
        "a dry run writes nothing"
    );
    let (job, done) = run(&session, &source, &import).await;
    assert!(done.counts == trial.counts);
    let names: Vec<String> = rows_of(&session, "account")
        .await
        .iter()
        .map(|row| row.get("name").as_text().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // They go again with the import that made them.
    let reverted = session.import().revert(job, &()).await.unwrap();
    assert_eq!((reverted.deleted, reverted.kept), (5, 0));
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn accounts_may_name_parents_of_earlier_rows() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source =
        csv("account,sector,subsidiary_of\nAcme,medical,\nLabs,medical,Acme\nTiny,retail,Labs\n");
    let preview = session
        .import()
        .preview("account", &source, &ReadOptions::default())
        .await
        .unwrap();
    for batch_size in [1, 500] {
        let import = Import {
            batch_size,
            ..upsert(preview.mapping.clone(), "name")
        };
        let trial = session
            .import()
            .dry_run(&source, &import, &(), &mut |_, _| {})
            .await
            .unwrap();
        let (_, done) = run(&session, &source, &import).await;
        assert!(trial.counts == done.counts);
        assert_eq!(done.counts.failed_rows, 0);
    }
    assert_eq!(
        session
            .accounts()
            .count(Find::from(Account::PARENT_ACCOUNT_ID.is_not_null()))
            .await
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn a_kept_mapping_is_found_again_by_the_form_of_the_file() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = csv("Vorname;Nachname;Mail\nAda;Lovelace;ada@x.example\n");
    let importer = session.import();
    let first = importer
        .preview("contact", &source, &ReadOptions::default())
        .await
        .unwrap();
    assert_eq!(first.saved_as, None);
    let fields: Vec<&str> = first
        .mapping
        .columns
        .iter()
        .map(|column| column.field.as_str())
        .collect();
    assert_eq!(fields, ["first_name", "last_name", "email"]);
    let mut mapping = first.mapping.clone();
    mapping
        .constants
        .insert("lead_source".into(), json!("trade fair"));
    importer
        .save_mapping("Fair", &mapping, &first.headers)
        .await
        .unwrap();
    importer
        .save_mapping("Fair", &mapping, &first.headers)
        .await
        .unwrap();
    let other = csv("Mail,NACHNAME,Vorname\ngrace@x.example,Hopper,Grace\n");
    let again = importer
        .preview("contact", &other, &ReadOptions::default())
        .await
        .unwrap();
    assert_eq!(again.saved_as.as_deref(), Some("Fair"));
    let called: Vec<&str> = again
        .mapping
        .columns
        .iter()
        .map(|column| column.column.as_str())
        .collect();
    assert_eq!(called, ["Vorname", "NACHNAME", "Mail"], "as this file says");
    // It fits this file as well, as it comes back and as it was made.
    for (mapping, expected) in [(again.mapping, [1, 0, 0, 0, 0]), (mapping, [0, 0, 0, 1, 0])] {
        let (_, done) = run(&session, &other, &Import::new(mapping)).await;
        assert_eq!(figures(&done.counts), expected);
    }
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_is_told_whole_before_anything_is_read() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = csv("A,B,C\n1,2,01/02/2026\n");
    let mapping = Mapping::new("user")
        .column("A", "shoe_size")
        .column("B", "password_hash")
        .column("C", "hire_date")
        .column("D", "email");
    let error = session
        .import()
        .start(&source, &Import::new(mapping))
        .await
        .unwrap_err();
    let ImportError::Mapping(problems) = error else {
        panic!("{error}")
    };
    let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(
        codes,
        [
            "unknown_field",
            "read_only",
            "ambiguous_date",
            "unknown_column"
        ]
    );
}

#[tokio::test]
async fn spreadsheets_are_imported_like_text() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut book = rust_xlsxwriter::Workbook::new();
    let sheet = book.add_worksheet();
    let date = rust_xlsxwriter::Format::new().set_num_format("dd.mm.yyyy");
    for (column, header) in ["Name", "Wert", "Abschlussdatum", "Schlagwörter"]
        .iter()
        .enumerate()
    {
        sheet.write(0, column as u16, *header).unwrap();
    }
    sheet.write(1, 0, "Rollout").unwrap();
    sheet.write(1, 1, 1234.5).unwrap();
    let day = rust_xlsxwriter::ExcelDateTime::from_ymd(2026, 1, 31).unwrap();
    sheet.write_with_format(1, 2, &day, &date).unwrap();
    sheet.write(1, 3, "a; b").unwrap();
    let source = Source::bytes("deals.xlsx", book.save_to_buffer().unwrap());
    let mapping = Mapping::new("deal")
        .column("Name", "name")
        .column("Wert", "amount")
        .column("Abschlussdatum", "expected_close_date")
        .column("Schlagwörter", "tags");
    let (job, done) = run(&session, &source, &Import::new(mapping)).await;
    let rows = entries(&session, job).await;
    assert_eq!(
        figures(&done.counts),
        [1, 0, 0, 0, 0],
        "{:?}",
        codes(&rows[0])
    );
    let deal = session
        .deals()
        .get(Id::new(rows[0].record_id.unwrap()))
        .await
        .unwrap();
    assert_eq!(deal.amount, Some("1234.5".parse().unwrap()));
    assert_eq!(deal.expected_close_date, "2026-01-31".parse().ok());
    assert_eq!(deal.tags, ["a", "b"]);
}

#[tokio::test]
async fn files_of_other_encodings_and_broken_ones_are_read_or_refused() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let latin = b"First;Last;Mail;Title\nJ\xF6rg;M\xFCller;j@x.example;Gesch\xE4ftsf\xFChrer\n";
    let (_, done) = run(
        &session,
        &Source::bytes("latin.csv", latin.to_vec()),
        &Import::new(contacts()),
    )
    .await;
    assert_eq!(done.counts.created_rows, 1);
    let found = session
        .contacts()
        .find_one(Find::new().filter_by_name(Filter::eq("last_name", "Müller")))
        .await
        .unwrap();
    assert!(found.is_some());
    let empty = session
        .import()
        .preview("contact", &csv(""), &ReadOptions::default())
        .await;
    assert!(matches!(empty, Err(ImportError::Read(_))));
    let broken = Source::bytes("broken.xlsx", b"PK\x03\x04 no archive".to_vec());
    let broken = session
        .import()
        .preview("contact", &broken, &ReadOptions::default())
        .await;
    assert!(matches!(broken, Err(ImportError::Read(_))));
}

#[tokio::test]
async fn the_published_sales_history_is_imported() {
    let Ok(folder) = std::env::var("CRM_DATA_DIR") else {
        return;
    };
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let file = |name: &str| Source::file(format!("{folder}/crm-sales-opportunities/{name}"));
    let accounts = file("accounts.csv");
    let preview = session
        .import()
        .preview("account", &accounts, &ReadOptions::default())
        .await
        .unwrap();
    let (_, first) = run(
        &session,
        &accounts,
        &upsert(preview.mapping.clone(), "name"),
    )
    .await;
    // Parents that stand further down are found by the second pass.
    let (_, second) = run(&session, &accounts, &upsert(preview.mapping, "name")).await;
    assert_eq!(second.counts.failed_rows, 0);
    assert_eq!(first.counts.created_rows + second.counts.created_rows, 85);

    let pipeline = file("sales_pipeline.csv");
    let preview = session
        .import()
        .preview("deal", &pipeline, &ReadOptions::default())
        .await
        .unwrap();
    let mut mapping = preview.mapping;
    mapping
        .columns
        .retain(|column| ["account_id", "amount"].contains(&column.field.as_str()));
    assert_eq!(mapping.columns.len(), 2);
    let mut name = ColumnMapping::new("opportunity_id", "name");
    name.lookup = None;
    mapping.columns.push(name);
    mapping
        .constants
        .insert("pipeline_id".into(), json!(acme.pipeline.to_string()));
    let import = upsert(mapping, "name");
    let trial = session
        .import()
        .dry_run(&pipeline, &import, &(), &mut |_, _| {})
        .await
        .unwrap();
    let (_, done) = run(&session, &pipeline, &import).await;
    assert!(trial.counts == done.counts);
    assert_eq!(figures(&done.counts), [8_800, 0, 0, 0, 0]);
}
