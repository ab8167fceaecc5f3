//! An import whose process is killed at random points, again and again, and resumed until it is done:
//! every row is there exactly once, with its event, and the counts are right (C-004).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use crm_engine::exchange::import::{Import, ImportExt, Lookup, Source};
use crm_engine::imports::{ImportJob, ImportMode, ImportRow, ImportStatus};
use crm_engine::prelude::*;
use crm_test_postgres::Database;
use sqlx::Row as _;

const ROWS: usize = 10_000;
const KILLS: usize = 12;
/// What tells the worker where to work: its presence makes the test beside it one.
const WORK: &str = "CRM_IMPORT_WORK";

/// The name of the one test here.
const TEST: &str = "import_crash::an_import_killed_at_random_points_does_every_row_exactly_once";

fn file() -> String {
    let mut text = String::from("First name;Last name;E-mail;Company\n");
    for row in 0..ROWS {
        // Some rows are bad, some double an earlier one.
        let email = match row % 100 {
            7 => "not an address".to_owned(),
            8 => format!("person.{}@globex.example", row / 2),
            _ => format!("person.{row}@globex.example"),
        };
        let company = row % 37;
        writeln!(text, "Ada {row};Lovelace;{email};Company {company}").unwrap();
    }
    text
}

fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

async fn session(url: &str, tenant: Id<Tenant>) -> Session {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .test_before_acquire(false)
        .connect(url)
        .await
        .unwrap();
    Crm::postgres(pool).session(tenant, Actor::System)
}

/// What the process that is killed does: it resumes the job and says how far it is.
async fn resume(work: &str) {
    let [url, tenant, job, path] = serde_json::from_str::<[String; 4]>(work).unwrap();
    let session = session(&url, tenant.parse().unwrap()).await;
    let told = |done: u64, _: Option<u64>| {
        println!("\ndone {done}");
        ControlFlow::Continue(())
    };
    let job: Id<ImportJob> = job.parse().unwrap();
    let source = Source::file(path);
    let importer = session.import();
    importer
        .resume(job, &source, true, &told, &mut |_, _| {})
        .await
        .unwrap();
}

/// C-004, R-077. The process that is killed is this test once more, with work to do in its
/// environment.
#[tokio::test]
async fn an_import_killed_at_random_points_does_every_row_exactly_once() {
    if let Ok(work) = std::env::var(WORK) {
        return resume(&work).await;
    }
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let url = database.application_url().to_owned();
    let crm = Crm::postgres(database.lazy_pool(4).unwrap());
    let acme = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("contacts.csv");
    std::fs::write(&path, file()).unwrap();
    let source = Source::file(&path);
    let preview = session
        .import()
        .preview("contact", &source, &Default::default())
        .await
        .unwrap();
    let mut mapping = preview.mapping;
    for column in &mut mapping.columns {
        if column.column == "Company" {
            column.field = "account_id".into();
            column.lookup = Some(Lookup {
                by: "name".into(),
                create_missing: true,
            });
        }
    }
    let import = Import {
        mode: ImportMode::Upsert,
        keys: vec!["email".into()],
        batch_size: 250,
        ..Import::new(mapping)
    };
    let trial = session
        .import()
        .dry_run(&source, &import, &(), &mut |_, _| {})
        .await
        .unwrap();
    let job = session.import().start(&source, &import).await.unwrap();

    let work = [
        url,
        acme.tenant.to_string(),
        job.id.to_string(),
        path.to_string_lossy().into_owned(),
    ];
    let work = serde_json::to_string(&work).unwrap();
    let mut random = numbers(0x5EED);
    let mut killed = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(WORK, &work)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed after so many batches, and a moment that no one knows: the next batch is on its way.
        let batches = random.next().unwrap() % 5;
        let spins = random.next().unwrap() % 3_000_000;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while killed < KILLS
            && seen < batches
            && let Some(Ok(line)) = lines.next()
        {
            seen += u64::from(line.starts_with("done "));
        }
        if killed < KILLS {
            for spin in 0..spins {
                std::hint::black_box(spin);
            }
            child.kill().unwrap();
            killed += 1;
        }
        for _ in lines {}
        let ended = child.wait().unwrap();
        let known = session.records::<ImportJob>().get(job.id).await.unwrap();
        if known.status == ImportStatus::Completed {
            break;
        }
        assert!(!ended.success(), "the worker ended before the job was done");
    }
    assert_eq!(killed, KILLS, "the import was done before all kills");

    let known = session.records::<ImportJob>().get(job.id).await.unwrap();
    let counts = known.counts;
    assert_eq!(counts.processed_rows, ROWS as i64);
    assert!(counts == trial.counts, "the dry run counted otherwise");
    assert!(counts.failed_rows > 0 && counts.skipped_rows > 0);
    let mut owner = database.owner().await.unwrap();
    // Each row once: as a contact with its event, or with the reason why not.
    let names = sqlx::query("SELECT first_name::text, count(*) FROM crm.contacts GROUP BY 1")
        .fetch_all(&mut owner)
        .await
        .unwrap();
    let names: BTreeMap<String, i64> = names.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(names.len() as i64, counts.created_rows);
    assert!(
        names.values().all(|count| *count == 1),
        "a row was done twice"
    );
    let events: i64 = sqlx::query_scalar(
        "SELECT count(DISTINCT record_id) FROM crm.audit_events WHERE object = 'contact'",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert_eq!(events, counts.created_rows);
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM crm.accounts")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(accounts, 37, "a company was created twice");
    let told = ImportRow::JOB_ID.eq(job.id).and(ImportRow::PLACE.eq(0_u32));
    let told = session.records::<ImportRow>().count(told).await.unwrap();
    assert_eq!(told, ROWS as u64, "each row has one entry");
}
