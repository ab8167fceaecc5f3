//! What holds for any file: a dry run says what the run does, an upsert that is repeated does nothing,
//! what was exported is imported as it was.

use super::*;

/// A file of random rows: bad cells, doubled keys, references, rows of the wrong length.
fn files() -> impl Strategy<Value = (String, Import)> {
    let row = (
        "[abc]?",
        "[ab]?",
        prop_oneof!["[a-f]@x\\.example", Just("bad".into()), Just(String::new())],
        "[xy]?",
        prop_oneof![Just(""), Just("Globex"), Just("Initech"), Just("Twin")],
        0..20_u8,
    );
    let options = (0..3_usize, 0..3_usize, 1..6_usize, any::<bool>());
    (prop::collection::vec(row, 1..25), options).prop_map(
        |(rows, (mode, duplicates, batch_size, create_missing))| {
            let mut text = String::from("First,Last,Mail,Title,Company\n");
            for (first, last, mail, title, company, ragged) in rows {
                let more = if ragged == 0 { ",more" } else { "" };
                text.push_str(&format!("{first},{last},{mail},{title},{company}{more}\n"));
            }
            let mut mapping = contacts().column("Company", "account_id");
            mapping.columns[4].lookup = Some(Lookup {
                by: "name".into(),
                create_missing,
            });
            let import = Import {
                mode: [ImportMode::Create, ImportMode::Update, ImportMode::Upsert][mode],
                duplicates: [
                    DuplicateHandling::Skip,
                    DuplicateHandling::Refuse,
                    DuplicateHandling::Keep,
                ][duplicates],
                keys: if mode == 0 {
                    vec![]
                } else {
                    vec!["email".into()]
                },
                batch_size,
                ..Import::new(mapping)
            };
            (text, import)
        },
    )
}

#[test]
fn a_dry_run_says_what_the_run_does_and_a_second_upsert_does_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    let on_postgres = std::env::var("CRM_TEST_STORAGE").is_ok_and(|storage| storage == "postgres");
    let mut runner = TestRunner::new(ProptestConfig {
        cases: crate::common::cases(if on_postgres { 24 } else { 192 }),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let property = |(text, import): (String, Import)| {
        number.set(number.get() + 1);
        let name = format!("acme-{}", number.get());
        runtime.block_on(async {
            let (_, session) = tenant(&crm, &name).await;
            for name in ["Globex", "Twin", "Twin"] {
                session.accounts().create(Account::new(name)).await.unwrap();
            }
            let known = Contact {
                email: "a@x.example".parse().ok(),
                ..Contact::named("a", "a")
            };
            session.contacts().create(known).await.unwrap();
            let source = csv(&text);
            let mut said: Vec<(u64, RowOutcome, Vec<String>)> = Vec::new();
            let mut note = |_: &[_], row: &RowResult| {
                let faults = row.faults.iter().map(ToString::to_string).collect();
                said.push((row.number, row.outcome, faults));
            };
            let trial = session
                .import()
                .dry_run(&source, &import, &(), &mut note)
                .await
                .unwrap();
            let job = session.import().start(&source, &import).await.unwrap().id;
            let mut did: Vec<(u64, RowOutcome, Vec<String>)> = Vec::new();
            let mut note = |_: &[_], row: &RowResult| {
                let faults = row.faults.iter().map(ToString::to_string).collect();
                did.push((row.number, row.outcome, faults));
            };
            let done = session
                .import()
                .resume(job, &source, false, &(), &mut note)
                .await
                .unwrap();
            assert_eq!(said, did);
            assert!(trial.counts == done.counts);
            if import.mode == ImportMode::Upsert {
                let (_, again) = run(&session, &source, &import).await;
                assert_eq!(again.counts.created_rows + again.counts.updated_rows, 0);
            }
            let kept = session.import().revert(job, &()).await.unwrap().kept;
            assert_eq!(kept, 0);
            assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 1);
        });
        Ok(())
    };
    runner.run(&files(), property).unwrap();
}

/// What users may write of the records of an object.
async fn writable(session: &Session, object: &str) -> Vec<Vec<serde_json::Value>> {
    let rows = session
        .object(object)
        .await
        .unwrap()
        .find(&Find::new().limit(100))
        .await
        .unwrap()
        .items;
    let of = |row: &crm_engine::schema::Row| {
        let fields = row
            .object()
            .own_fields()
            .iter()
            .filter(|field| !field.read_only);
        fields.map(|field| row.get(&field.name).to_json()).collect()
    };
    let mut rows: Vec<Vec<serde_json::Value>> = rows.iter().map(of).collect();
    rows.sort_by_key(|row| serde_json::to_string(row).unwrap());
    rows
}

/// What differs between the contacts that are exported.
type Written = (String, String, String, String, Vec<String>, bool, usize);

#[test]
fn export_then_import_gives_equal_records() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    let on_postgres = std::env::var("CRM_TEST_STORAGE").is_ok_and(|storage| storage == "postgres");
    let mut runner = TestRunner::new(ProptestConfig {
        cases: crate::common::cases(if on_postgres { 16 } else { 96 }),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let text = "[a-zäß=+@'\",;\\-]{0,12}";
    let contact = (
        text,
        text,
        text,
        "\\PC{0,20}",
        prop::collection::vec("[a-z]{1,4}", 0..3),
        any::<bool>(),
        0..3_usize,
    );
    let property = |contacts: Vec<Written>| {
        number.set(number.get() + 1);
        let name = format!("acme-{}", number.get());
        runtime.block_on(async {
            let (acme, session) = tenant(&crm, &name).await;
            let globex = session
                .accounts()
                .create(Account::new("Globex"))
                .await
                .unwrap();
            for (place, (last, title, company, notes, tags, flag, kind)) in
                contacts.into_iter().enumerate()
            {
                let contact = Contact {
                    email: format!("p{place}@x.example").parse().ok(),
                    phone: (kind == 1).then(|| "+49 30 123456".parse().unwrap()),
                    account_id: flag.then_some(globex.id),
                    owner_id: (kind == 2).then_some(acme.admin),
                    company: Some(company),
                    job_title: Some(title),
                    description: Some(notes),
                    custom_fields: json!({"region": last, "n": kind, "flag": flag}),
                    tags,
                    ..Contact::named("Ada", format!("L{last}"))
                };
                let mut contact = contact;
                contact.preferences.do_not_call = flag;
                session.contacts().create(contact).await.unwrap();
            }
            let before = writable(&session, "contact").await;
            let mut file = Vec::new();
            crm_engine::exchange::export::Export::of::<Contact>(Find::new())
                .run(&session, &mut file, &())
                .await
                .unwrap();
            for contact in session
                .contacts()
                .find(Find::new().limit(100))
                .await
                .unwrap()
                .items
            {
                session.contacts().delete(contact.id).await.unwrap();
            }
            let source = Source::bytes("contacts.csv", file);
            let preview = session
                .import()
                .preview("contact", &source, &ReadOptions::default())
                .await
                .unwrap();
            let (job, done) = run(&session, &source, &Import::new(preview.mapping)).await;
            let faults: Vec<_> = entries(&session, job).await.iter().map(codes).collect();
            assert_eq!(
                done.counts.created_rows as usize,
                before.len(),
                "{faults:?}"
            );
            assert_eq!(writable(&session, "contact").await, before);
        });
        Ok(())
    };
    runner
        .run(&prop::collection::vec(contact, 1..6), property)
        .unwrap();
}
