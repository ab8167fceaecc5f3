//! Files as they come (C-004, R-077): encodings, delimiters, quotes, notations, spreadsheets, rows in
//! the wrong order. Each is imported by the mapping that is suggested for it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{crm, rows_of, tenant};
use crm_engine::exchange::import::{
    Cell, HeaderRow, Import, ImportError, ImportExt, ReadError, ReadOptions, Source, Table,
};
use crm_engine::imports::{ImportCounts, ImportJob, ImportMode, ImportStatus};
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Imports a file by the suggested mapping, after a dry run that must say the same.
async fn land(
    session: &Session,
    object: &str,
    source: &Source,
    with: impl Fn(&mut Import),
) -> (Id<ImportJob>, ImportCounts) {
    let importer = session.import();
    let read = ReadOptions::default();
    let preview = importer.preview(object, source, &read).await.unwrap();
    let mut import = Import::new(preview.mapping);
    with(&mut import);
    let trial = importer
        .dry_run(source, &import, &(), &mut |_, _| {})
        .await
        .unwrap();
    let job = importer.start(source, &import).await.unwrap();
    let done = importer.run(job.id, source, &()).await.unwrap();
    assert!(
        trial.counts == done.counts,
        "a dry run says what a run does"
    );
    (job.id, done.counts)
}

fn figures(counts: &ImportCounts) -> [i64; 3] {
    [counts.created_rows, counts.skipped_rows, counts.failed_rows]
}

/// The rows of a text with this delimiter, cells quoted where they need it.
fn delimited(rows: &[[&str; 4]], delimiter: char, line_end: &str) -> String {
    let cell = |cell: &str| {
        let needs = cell.contains([delimiter, '"', '\n', '\r']);
        if needs {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    };
    let line = |row: &[&str; 4]| {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        cells.join(&delimiter.to_string())
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    format!("{}{line_end}", lines.join(line_end))
}

/// The text in every encoding that files come in.
fn encoded(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = std::iter::once(0xFEFF).chain(text.encode_utf16());
        units.flat_map(bytes).collect()
    };
    let latin = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap());
    vec![
        ("UTF-8", text.as_bytes().to_vec()),
        (
            "UTF-8 with a mark",
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        ),
        ("UTF-16 LE", utf16(u16::to_le_bytes)),
        ("UTF-16 BE", utf16(u16::to_be_bytes)),
        ("Windows-1252", latin.collect()),
    ]
}

#[tokio::test]
async fn one_table_in_every_encoding_and_with_every_delimiter() {
    let crm = crm();
    let note = "Zeile 1, erste; \"Hälfte\"\n\nZeile 2\t| Ende";
    let rows = [
        ["Vorname", "Nachname", "E-Mail-Adresse", "Beschreibung"],
        [
            "Jürgen",
            "Müller; Meier, & Söhne | Co",
            "juergen@x.example",
            note,
        ],
        ["Zoë", "d'Été \"die Zweite\"", "zoe@x.example", ""],
        ["", "Größe", "g@x.example", "=1+1"],
    ];
    let mut number = 0;
    for delimiter in [',', ';', '\t', '|'] {
        for line_end in ["\n", "\r\n"] {
            for (encoding, bytes) in encoded(&delimited(&rows, delimiter, line_end)) {
                number += 1;
                let (_, session) = tenant(&crm, &format!("tenant-{number}")).await;
                let source = Source::bytes("people.csv", bytes);
                let (_, counts) = land(&session, "contact", &source, |_| {}).await;
                let place = format!("{encoding}, {delimiter:?}, {line_end:?}");
                assert_eq!(figures(&counts), [2, 0, 1], "{place}");
                let find = Find::new().sort(Contact::EMAIL.asc());
                let found = session.contacts().find(find).await.unwrap().items;
                let jürgen = &found[0];
                assert_eq!(
                    jürgen.name,
                    PersonName::new("Jürgen", rows[1][1]),
                    "{place}"
                );
                assert_eq!(jürgen.description.as_deref(), Some(note), "{place}");
                assert_eq!(
                    found[1].name.last_name.as_deref(),
                    Some(rows[2][1]),
                    "{place}"
                );
            }
        }
    }
}

#[tokio::test]
async fn numbers_and_dates_are_read_in_the_notation_of_their_column() {
    let crm = crm();
    let cases = [
        ("1.234,50;31.01.2026", "5;1.2.2026"),
        ("\"1,234.50\";01/31/2026", "5.00;02/01/2026"),
        ("1234.5;2026-01-31", "5;2026-02-01"),
        ("1 234,50 €;31/01/2026", "5,00 €;01/02/2026"),
        ("1'234.50;31-Jan-2026", "5.00;01-Feb-2026"),
    ];
    for (number, (first, second)) in cases.into_iter().enumerate() {
        let (_, session) = tenant(&crm, &format!("tenant-{number}")).await;
        let text = format!("Deal;Amount;Close date\nOne;{first}\nTwo;{second}\n");
        let source = Source::bytes("deals.csv", text.into_bytes());
        let (_, counts) = land(&session, "deal", &source, |_| {}).await;
        assert_eq!(figures(&counts), [2, 0, 0], "{first}");
        let find = Find::new().sort(Deal::NAME.asc());
        let deals = session.deals().find(find).await.unwrap().items;
        assert_eq!(deals[0].amount, Some("1234.50".parse().unwrap()), "{first}");
        assert_eq!(deals[1].amount, Some("5".parse().unwrap()), "{second}");
        let days = ["2026-01-31", "2026-02-01"].map(|day| day.parse().ok());
        let found = [deals[0].expected_close_date, deals[1].expected_close_date];
        assert_eq!(found, days, "{first}");
    }
    // Where no row tells day from month, somebody has to.
    let (_, session) = tenant(&crm, "unclear").await;
    let text = "Deal,Close date\nOne,01/02/2026\nTwo,03/04/2026\n";
    let source = Source::bytes("deals.csv", text.as_bytes().to_vec());
    let read = ReadOptions::default();
    let preview = session
        .import()
        .preview("deal", &source, &read)
        .await
        .unwrap();
    let mut import = Import::new(preview.mapping);
    let error = session.import().start(&source, &import).await.unwrap_err();
    assert!(
        matches!(&error, ImportError::Mapping(problems) if problems[0].code == "ambiguous_date"),
        "{error}"
    );
    import.mapping.columns[1].format.date = Some("DD/MM/YYYY".into());
    let job = session.import().start(&source, &import).await.unwrap();
    session.import().run(job.id, &source, &()).await.unwrap();
    let one = session
        .deals()
        .find_one(Deal::NAME.eq("One"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(one.expected_close_date, "2026-02-01".parse().ok());
}

/// Cells of a spreadsheet have types of their own: a number in a text field is written as it is
/// shown, an empty row is none.
#[tokio::test]
async fn typed_cells_of_a_spreadsheet_are_values() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut book = rust_xlsxwriter::Workbook::new();
    let sheet = book.add_worksheet();
    for (column, header) in ["Firma", "Umsatz", "Mitarbeiter", "PLZ", "Telefon"]
        .iter()
        .enumerate()
    {
        sheet.write(0, column as u16, *header).unwrap();
    }
    sheet.write(1, 0, 2024).unwrap();
    sheet.write(1, 1, 1_234_567.25).unwrap();
    sheet.write(1, 2, 12).unwrap();
    sheet.write(1, 3, "01067").unwrap();
    sheet.write(1, 4, "+49 30 901820").unwrap();
    sheet.write(3, 0, "Globex").unwrap();
    sheet.write(3, 2, 3.5).unwrap();
    let source = Source::bytes("firmen.xlsx", book.save_to_buffer().unwrap());
    let (_, counts) = land(&session, "account", &source, |_| {}).await;
    assert_eq!(figures(&counts), [1, 0, 1], "half an employee is refused");
    let account = session
        .accounts()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.name, "2024");
    assert_eq!(account.annual_revenue, Some("1234567.25".parse().unwrap()));
    assert_eq!(account.employee_count, Some(12));
    let address = account.billing_address.as_ref().unwrap();
    assert_eq!(address.postal_code.as_deref(), Some("01067"));
}

/// Rows that name records of later rows land behind those, as deep as it goes; the orphan and those
/// that name each other come back.
#[tokio::test]
async fn children_may_stand_before_their_parents() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let text = "Name,Parent account\nGrandchild,Child\nChild,Parent\nOther,\nParent,\n\
                Orphan,Nobody\nHen,Egg\nEgg,Hen\nChick,Hen\nOwn,Own\n";
    let source = Source::bytes("tree.csv", text.as_bytes().to_vec());
    let (job, counts) = land(&session, "account", &source, |import| {
        import.mode = ImportMode::Upsert;
        import.keys = vec!["name".into()];
    })
    .await;
    assert_eq!(figures(&counts), [4, 0, 5]);
    let mut errors = Vec::new();
    let importer = session.import();
    importer
        .write_errors(job, &source, &mut errors)
        .await
        .unwrap();
    let errors = String::from_utf8(errors).unwrap();
    let names: Vec<&str> = errors
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap())
        .collect();
    assert_eq!(names, ["Orphan", "Hen", "Egg", "Chick", "Own"], "{errors}");
    let find = Find::new().sort(Account::NAME.asc());
    let all = session.accounts().find(find).await.unwrap().items;
    let names: Vec<&str> = all.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["Child", "Grandchild", "Other", "Parent"]);
    assert_eq!(all[0].parent_account_id, Some(all[3].id));
    assert_eq!(all[1].parent_account_id, Some(all[0].id));
    // The same file once more changes nothing.
    let (_, again) = land(&session, "account", &source, |import| {
        import.mode = ImportMode::Upsert;
        import.keys = vec!["name".into()];
    })
    .await;
    assert_eq!(
        (again.created_rows, again.updated_rows, again.unchanged_rows),
        (0, 0, 4)
    );
    assert_eq!(rows_of(&session, "account").await.len(), 4);
}

/// C-004: a tree of accounts whose rows stand in any order, imported by a worker that is stopped
/// after each batch: every account once and under its parent; reverted, nothing is left.
#[test]
fn a_tree_in_any_order_lands_whole_and_goes_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 1..40);
    let parents = (parents, any::<u64>()).prop_map(|(parents, seed)| {
        let mut rows: Vec<(String, Option<String>)> = vec![("n0".into(), None)];
        for (place, parent) in parents.iter().enumerate() {
            let parent = format!("n{}", parent.index(place + 1));
            rows.push((format!("n{}", place + 1), Some(parent)));
        }
        // In an order of its own.
        rows.sort_by_key(|(name, _)| {
            let own: u64 = name[1..].parse().unwrap();
            (own + 1).wrapping_mul(seed | 1)
        });
        rows
    });
    let mut runner = TestRunner::new(Config {
        cases: common::cases(24),
        failure_persistence: None,
        ..Config::default()
    });
    let crm = runtime.block_on(async { crm() });
    let tenants = AtomicUsize::new(0);
    let each_batch = |_, _| ControlFlow::Break(());
    let outcome = runner.run(&parents, |rows| {
        runtime.block_on(async {
            let name = format!("acme-{}", tenants.fetch_add(1, Ordering::Relaxed));
            let (_, session) = tenant(&crm, &name).await;
            let lines: String = rows
                .iter()
                .map(|(name, parent)| format!("{name},{}\n", parent.as_deref().unwrap_or_default()))
                .collect();
            let text = format!("Name,Parent account\n{lines}");
            let source = Source::bytes("tree.csv", text.into_bytes());
            let importer = session.import();
            let preview = importer
                .preview("account", &source, &ReadOptions::default())
                .await
                .unwrap();
            let import = Import {
                batch_size: 5,
                ..Import::new(preview.mapping)
            };
            let job = importer.start(&source, &import).await.unwrap();
            let counts = loop {
                let done = importer.run(job.id, &source, &each_batch).await.unwrap();
                if done.status == ImportStatus::Completed {
                    break done.counts;
                }
            };
            prop_assert_eq!(figures(&counts), [rows.len() as i64, 0, 0]);
            let all = session
                .accounts()
                .find(Find::new().limit(100))
                .await
                .unwrap()
                .items;
            let names: HashMap<_, _> = all.iter().map(|one| (one.id, one.name.clone())).collect();
            let mut landed: Vec<(String, Option<String>)> = all
                .iter()
                .map(|one| {
                    (
                        one.name.clone(),
                        one.parent_account_id.map(|id| names[&id].clone()),
                    )
                })
                .collect();
            let mut expected = rows;
            landed.sort();
            expected.sort();
            prop_assert_eq!(landed, expected);
            let reverted = importer.revert(job.id, &()).await.unwrap();
            prop_assert_eq!((reverted.deleted, reverted.kept), (all.len() as u64, 0));
            Ok(())
        })
    });
    outcome.unwrap();
}

/// A mark at the beginning promises UTF-8: what is none behind it is told, not stored as U+FFFD.
#[tokio::test]
async fn what_a_mark_promises_is_not_believed() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let bytes = b"\xEF\xBB\xBFFirst name,Last name\nAda,Lovelace\nJ\xF6rg,M\xFCller\n";
    let source = Source::bytes("people.csv", bytes.to_vec());
    let (job, counts) = land(&session, "contact", &source, |_| {}).await;
    assert_eq!(figures(&counts), [1, 0, 1]);
    let mut errors = Vec::new();
    let importer = session.import();
    let written = importer.write_errors(job, &source, &mut errors).await;
    assert_eq!(written.unwrap(), 1);
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("state the encoding"), "{errors}");
}

/// Cells that are only formatted hold nothing, however far to the right they stand.
#[tokio::test]
async fn formatted_cells_make_no_columns() {
    let mut book = rust_xlsxwriter::Workbook::new();
    let red = rust_xlsxwriter::Format::new().set_font_color("#FF0000");
    let sheet = book.add_worksheet();
    for (row, (first, last)) in [
        ("First name", "Last name"),
        ("Ada", "Lovelace"),
        ("Joan", ""),
    ]
    .into_iter()
    .enumerate()
    {
        sheet.write(row as u32, 0, first).unwrap();
        sheet.write(row as u32, 1, last).unwrap();
        sheet.write_blank(row as u32, 16_383, &red).unwrap();
    }
    let source = Source::bytes("people.xlsx", book.save_to_buffer().unwrap());
    let mut table = Table::open(&source, &ReadOptions::default()).unwrap();
    assert_eq!(table.headers(), ["First name", "Last name"]);
    let mut rows = Vec::new();
    while let Some(row) = table.next_row().unwrap() {
        rows.push(row.cells.iter().map(Cell::text).collect::<Vec<_>>());
    }
    assert_eq!(rows, [["Ada", "Lovelace"], ["Joan", ""]]);
}

/// A workbook whose first sheet has these cells: a ZIP archive without compression.
fn workbook(cells: &str) -> Vec<u8> {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006/relationships";
    let files = [
        (
            "_rels/.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"r0\" \
                 Type=\"{links}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"r1\" Type=\"{links}/worksheet\" \
                 Target=\"worksheets/sheet1.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "<workbook xmlns=\"{main}\" xmlns:r=\"{links}\"><sheets><sheet name=\"S\" \
                 sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"
            ),
        ),
        (
            "xl/worksheets/sheet1.xml",
            format!("<worksheet xmlns=\"{main}\"><sheetData>{cells}</sheetData></worksheet>"),
        ),
    ];
    let checksum = |bytes: &[u8]| {
        let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        let sum = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
        !bytes.iter().fold(u32::MAX, sum)
    };
    let (mut archive, mut index) = (Vec::new(), Vec::new());
    for (name, text) in &files {
        let (place, size) = (archive.len() as u32, text.len() as u32);
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend(checksum(text.as_bytes()).to_le_bytes());
        about.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        about.extend((name.len() as u32).to_le_bytes());
        archive.extend(
            [
                b"PK\x03\x04",
                about.as_slice(),
                name.as_bytes(),
                text.as_bytes(),
            ]
            .concat(),
        );
        index.extend([b"PK\x01\x02\x14\x00", about.as_slice(), &[0; 10]].concat());
        index.extend(place.to_le_bytes());
        index.extend(name.as_bytes());
    }
    let (place, count) = (archive.len() as u32, files.len() as u8);
    archive.extend(&index);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([count, 0, count, 0]);
    archive.extend([(index.len() as u32).to_le_bytes(), place.to_le_bytes()].concat());
    archive.extend([0, 0]);
    archive
}

/// A sheet says itself where its cells are. One that puts them nowhere is refused: it fills no memory,
/// and is never taken for one that ended there.
#[test]
fn sheets_that_make_no_sense_are_refused() {
    let text = |place: &str| format!("<c r=\"{place}\" t=\"inlineStr\"><is><t>x</t></is></c>");
    let row = |number: u32, cells: &str| format!("<row r=\"{number}\">{cells}</row>");
    let begin = row(1, &text("A1"));
    let read = |cells: &str| -> Result<usize, ReadError> {
        let source = Source::bytes("sheet.xlsx", workbook(cells));
        let read = ReadOptions {
            header: HeaderRow::Row(1),
            ..ReadOptions::default()
        };
        let mut table = Table::open(&source, &read)?;
        let mut rows = 0;
        while table.next_row()?.is_some() {
            rows += 1;
        }
        Ok(rows)
    };
    let good = format!("{begin}{}{}", row(2, &text("A2")), row(7, &text("A7")));
    assert_eq!(read(&good).unwrap(), 2);
    for place in ["XFE2", "ZZZZZZ2", "AAAAAAAAAAAA2", "A99999999999"] {
        let error = read(&format!("{begin}{}", row(2, &text(place)))).unwrap_err();
        assert!(
            matches!(error, ReadError::Spreadsheet(_)),
            "{place}: {error}"
        );
    }
    // A broken archive is told to be one.
    let broken = Source::bytes("broken.xlsx", b"PK\x03\x04 no archive".to_vec());
    let error = Table::open(&broken, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("Zip"), "{error}");
    let backwards = format!("{begin}{}{}", row(7, &text("A7")), row(2, &text("A2")));
    assert!(matches!(read(&backwards), Err(ReadError::Spreadsheet(_))));
}

/// A header alone, a row of another length, a quote that is never closed: an answer each, and
/// good rows land.
#[tokio::test]
async fn broken_tables_are_told() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = |text: &str| Source::bytes("people.csv", text.as_bytes().to_vec());
    for (text, expected) in [
        ("First name,Last name\n", [0, 0, 0]),
        (
            "First name,Last name\nAda,Lovelace,more\nGrace,Hopper\n\n\nHank\n",
            [1, 0, 2],
        ),
        (
            "\u{feff}\"First name\";\"Last name\"\n\"Joan\";\"Clarke\"",
            [1, 0, 0],
        ),
        (
            "First name,Last name\nMary,\"Some\nAnn,Other\nEve,Third\n",
            [0, 0, 1],
        ),
    ] {
        let (_, counts) = land(&session, "contact", &source(text), |_| {}).await;
        assert_eq!(figures(&counts), expected, "{text:?}");
    }
}
