//! Export of any query to CSV, XLSX and JSON lines (C-004, R-097): what is in the file, what never
//! is, and what is known of it afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::storage::{Calls, Watched};
use std::collections::BTreeSet;
use std::io::{self, Cursor, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::common::{Property, crm, populate, tenant};
use calamine::{Data, Reader, Xlsx as Workbook};
use crm_engine::engine::ManualClock;
use crm_engine::exchange::export::{Csv, Export, ExportError, Format, Headers, Xlsx};
use crm_engine::exchange::spreadsheet::undefuse;
use crm_engine::exports::ExportStatus;
use crm_engine::prelude::*;
use crm_engine::query::Sort;
use serde_json::{Value as Json, json};

/// Reads a CSV file: the header, then the rows.
fn read_csv(file: &[u8], delimiter: u8) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .from_reader(file);
    let rows = reader.records().map(|row| row.unwrap());
    rows.map(|row| row.iter().map(str::to_owned).collect())
        .collect()
}

/// Columns through references and members of custom fields, in the order asked for (C-004).
#[tokio::test]
async fn columns_lead_through_references_and_custom_fields() {
    let crm = crm();
    let acme = populate(&crm, "acme").await;
    let session = &acme.session;
    let contact = Contact {
        custom_fields: json!({"region": "North", "score": 7}),
        account_id: Some(acme.account),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(contact).await.unwrap();
    let mut file = Vec::new();
    let columns = [
        "last_name",
        "account_id.name",
        "account_id.owner_id.email",
        "owner_id.email",
        "custom_fields.region",
        "custom_fields.score",
    ];
    let report = Export::of::<Contact>(Contact::ACCOUNT_ID.eq(acme.account))
        .columns(columns)
        .file_name("contacts.csv")
        .run(session, &mut file, &())
        .await
        .unwrap();
    assert_eq!(report.rows, 2);
    let rows = read_csv(&file, b',');
    assert_eq!(rows[0], columns);
    let grace = "grace@acme.example";
    assert_eq!(rows[1], ["Scorpio", "Globex", grace, grace, "", ""]);
    assert_eq!(rows[2], ["Lovelace", "Globex", grace, "", "North", "7"]);

    let job = session.exports().get(report.job).await.unwrap();
    assert_eq!(
        (job.status, job.rows, job.object.as_str(), job.has_personal),
        (ExportStatus::Completed, 2, "contact", true)
    );
    assert_eq!(job.columns, json!(columns));
    assert_eq!(job.file_name.as_deref(), Some("contacts.csv"));
    assert!(job.started_at.is_some() && job.completed_at >= job.started_at);
    assert_eq!(job.created.by, session.actor());
    let again = session
        .exports()
        .update(report.job, |job| job.object = "deal".into())
        .await;
    assert_eq!(again.unwrap_err().code(), "export_begun");
}

/// Delimiter, mark, labels, zone, formats, decimal comma.
#[tokio::test]
async fn csv_is_written_as_the_reader_wants_it() {
    let crm = crm();
    let acme = populate(&crm, "acme").await;
    let session = &acme.session;
    let property = Property {
        price: Some("-1234.5".parse::<rust_decimal::Decimal>().unwrap().abs()),
        ..Property::new("C-1")
    };
    session
        .records::<Property>()
        .create(property)
        .await
        .unwrap();
    let mut file = Vec::new();
    Export::named("property", Find::new().sort(Sort::desc("reference")))
        .columns(["reference", "price", "created_at", "seller_id.name"])
        .format(Format::Csv(
            Csv::default().delimiter(b';').byte_order_mark(),
        ))
        .headers(Headers::Labels)
        .decimal_comma()
        .timestamps("%d.%m.%Y %z")
        .time_zone(TimeZone::parse("Europe/Berlin").unwrap())
        .run(session, &mut file, &())
        .await
        .unwrap();
    let text = file.strip_prefix("\u{feff}".as_bytes()).unwrap();
    let rows = read_csv(text, b';');
    assert_eq!(
        rows[0],
        ["Reference", "Price", "Created at", "Seller / Name"]
    );
    assert_eq!(rows[1][..2], ["C-1", "1234,5"]);
    assert!(rows[1][2].ends_with(" +0100") || rows[1][2].ends_with(" +0200"));
    assert_eq!(rows[2][3], "Globex");
    let wrong = Export::of::<Contact>(Find::new()).timestamps("%Q");
    let error = wrong.run(session, Vec::new(), &()).await.unwrap_err();
    assert_eq!(error.code(), "time_format");
}

/// OWASP CSV injection: texts are defused, numbers stay numbers, and the text comes back.
#[tokio::test]
async fn formulas_are_defused_and_numbers_stay() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let texts = [
        "=HYPERLINK(\"http://x\",\"y\")",
        "+1",
        "-1+1",
        "@SUM(A1)",
        "'=1",
        "fine",
    ];
    for name in texts {
        let account = Account {
            custom_fields: json!({"delta": -5, "text": name}),
            ..Account::new(name)
        };
        session.accounts().create(account).await.unwrap();
    }
    let export = Export::of::<Account>(Find::new()).columns([
        "name",
        "custom_fields.delta",
        "custom_fields.text",
    ]);
    let mut file = Vec::new();
    export.clone().run(&session, &mut file, &()).await.unwrap();
    for (row, text) in read_csv(&file, b',').iter().skip(1).zip(texts) {
        assert!(!row[0].starts_with(['=', '+', '-', '@']), "{row:?}");
        assert_eq!((undefuse(&row[0]), undefuse(&row[2])), (text, text));
        assert_eq!(row[1], "-5");
    }
    let mut file = Vec::new();
    let xlsx = export.format(Format::Xlsx(Xlsx::default()));
    xlsx.run(&session, &mut file, &()).await.unwrap();
    let mut workbook: Workbook<_> = Workbook::new(Cursor::new(file)).unwrap();
    let range = workbook.worksheet_range("Account").unwrap();
    for (row, text) in range.rows().skip(1).zip(texts) {
        let Data::String(name) = &row[0] else {
            panic!("{row:?}")
        };
        assert!(!name.starts_with(['=', '+', '-', '@']));
        assert_eq!(undefuse(name), text);
        assert_eq!(row[1], Data::Float(-5.0));
    }
    assert!(workbook.worksheet_formula("Account").unwrap().is_empty());
}

/// Typed cells, and further sheets for further rows.
#[tokio::test]
async fn a_workbook_has_typed_cells_and_as_many_sheets_as_it_needs() {
    let crm = crm();
    let acme = populate(&crm, "acme").await;
    let mut file = Vec::new();
    Export::of::<PipelineStage>(Find::new())
        .columns([
            "name",
            "default_probability",
            "is_active",
            "created_at",
            "version",
        ])
        .format(Format::Xlsx(Xlsx::default().rows_per_sheet(4)))
        .run(&acme.session, &mut file, &())
        .await
        .unwrap();
    let mut workbook: Workbook<_> = Workbook::new(Cursor::new(file)).unwrap();
    assert_eq!(
        workbook.sheet_names(),
        ["Pipeline stage", "Pipeline stage 2"]
    );
    let mut names = Vec::new();
    for sheet in workbook.sheet_names() {
        let range = workbook.worksheet_range(&sheet).unwrap();
        assert_eq!(range.height(), 4);
        for row in range.rows().skip(1) {
            names.push(row[0].to_string());
            assert!(matches!(row[1], Data::Float(_)), "{row:?}");
            assert!(matches!(row[2], Data::Bool(true)), "{row:?}");
            assert!(matches!(row[3], Data::DateTime(_)), "{row:?}");
            assert_eq!(row[4], Data::Float(1.0));
        }
    }
    assert_eq!(names.len(), 6);
    assert_eq!(names[0], "Prospecting");
}

/// JSON lines are the records as they are in JSON.
#[tokio::test]
async fn json_lines_are_records() {
    let crm = crm();
    let acme = populate(&crm, "acme").await;
    let mut file = Vec::new();
    let export = Export::of::<Deal>(Find::new()).format(Format::JsonLines);
    export.run(&acme.session, &mut file, &()).await.unwrap();
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<Json> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let deals = acme.session.deals().find(Find::new()).await.unwrap();
    let wanted: Vec<Json> = deals
        .items
        .iter()
        .map(|deal| serde_json::to_value(&**deal).unwrap())
        .collect();
    assert_eq!(lines, wanted);
}

/// no secret is in any file, by default, by name, or through a reference.
#[tokio::test]
async fn secrets_are_in_no_file() {
    let crm = crm();
    let acme = populate(&crm, "acme").await;
    let session = &acme.session;
    let marker = "marker-of-a-secret";
    let billing = json!({"iban": marker});
    let mut tenants = session.records::<Tenant>();
    tenants
        .update(acme.onboarded.tenant, |tenant| {
            tenant.billing_info = Some(billing.clone());
        })
        .await
        .unwrap();
    let envelope = json!({"key_id": "k", "algorithm": "a", "nonce": "n", "ciphertext": marker});
    let setting = json!({"category": "security", "key": "smtp", "value": {"encrypted": envelope}});
    let mut settings = session.object("tenant_configuration").await.unwrap();
    settings.create(setting.as_object().unwrap()).await.unwrap();
    let objects = session.engine().registry().objects();
    for name in objects.keys().filter(|name| *name != "audit_event") {
        let formats = [Format::Csv(Csv::default()), Format::JsonLines];
        for format in formats {
            let mut file = Vec::new();
            let export = Export::named(name, Find::new().with_archived().with_deleted());
            let export = export.format(format);
            export.run(session, &mut file, &()).await.unwrap();
            let text = String::from_utf8(file).unwrap();
            assert!(!text.contains(marker), "{name}");
            assert!(!text.contains("password_hash") && !text.contains("billing_info"));
        }
    }
    for columns in [
        ["owner_id.password_hash"],
        ["owner_id.manager_id.password_hash"],
    ] {
        let export = Export::of::<Deal>(Find::new()).columns(columns);
        let error = export.run(session, Vec::new(), &()).await.unwrap_err();
        assert_eq!(error.code(), "sensitive_column");
    }
    let personal = Export::of::<Contact>(Find::new()).without_personal();
    let mut file = Vec::new();
    let report = personal.clone().run(session, &mut file, &()).await.unwrap();
    assert!(!String::from_utf8(file).unwrap().contains("Scorpio"));
    let job = session.exports().get(report.job).await.unwrap();
    assert!(!job.has_personal);
    let named = personal.columns(["account_id.name", "email"]);
    let error = named.run(session, Vec::new(), &()).await.unwrap_err();
    assert!(matches!(error, ExportError::PersonalColumn { column } if column == "email"));
    for (columns, code) in [
        (vec!["nothing"], "unknown_column"),
        (vec!["name.first"], "unknown_column"),
        (vec!["name", "name"], "repeated_column"),
        (vec![], "column_count"),
    ] {
        let export = Export::of::<Account>(Find::new()).columns(columns);
        let error = export.run(session, Vec::new(), &()).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
}

/// Many records: pages of bounded size, one query for each object that references lead to, every
/// record once; and a stop in the middle.
#[tokio::test]
async fn ten_thousand_records_are_read_in_bounded_pages() {
    let storage = Watched::new(Calls::default());
    // What is remembered of the tenant is read again as time goes by, and here it stands still.
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(storage.clone()).clock(clock).build();
    let (onboarded, session) = tenant(&crm, "acme").await;
    for chunk in 0..10 {
        let accounts = (0..1_010).map(|number| Account {
            owner_id: Some(onboarded.admin),
            ..Account::new(format!("Account {chunk} {number}"))
        });
        let created = session.accounts().create_all(accounts.collect()).await;
        created.unwrap();
    }
    storage.watch.take();
    let export = Export::of::<Account>(Find::new()).columns(["name", "owner_id.email"]);
    let mut file = Vec::new();
    let report = export.clone().run(&session, &mut file, &()).await.unwrap();
    assert_eq!(report.rows, 10_100);
    let names: BTreeSet<String> = read_csv(&file, b',')
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(names.len(), 10_101);
    let selects = storage.watch.take().into_iter();
    let selects = selects.filter(|call| call.kind == "select");
    let rows: Vec<usize> = selects.map(|call| call.rows).collect();
    assert_eq!(rows.len(), 2 * 21, "21 pages and their owners");
    assert_eq!(rows.into_iter().max(), Some(501));

    let stop = |done: u64, total: Option<u64>| {
        assert_eq!(total, Some(10_100));
        if done < 1_500 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let error = export
        .clone()
        .run(&session, Vec::new(), &stop)
        .await
        .unwrap_err();
    assert!(matches!(error, ExportError::Cancelled { rows: 1_500 }));
    let error = export.run(&session, Full, &()).await.unwrap_err();
    assert_eq!(error.code(), "io");
    let jobs = session.exports().find(Find::new()).await.unwrap();
    let told: Vec<_> = jobs
        .items
        .iter()
        .map(|job| (job.status, job.error_code.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (ExportStatus::Completed, None),
            (ExportStatus::Cancelled, None),
            (ExportStatus::Failed, Some("io")),
        ]
    );
}

/// A disk without room.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
