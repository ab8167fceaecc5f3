//! Rows that find their records by several fields at once, among many that have some of them.

use super::*;
use crate::common::storage::{Calls, Watched};

/// How many first names there are, and last names.
const NAMES: usize = 60;

/// C-004: an upsert by first and last name, and a reference by the whole name, read about what they
/// find: not everybody who has one of the first names and one of the last names.
#[tokio::test]
async fn names_are_found_without_reading_everybody() {
    let storage = Watched::new(Calls::default());
    let session = tenant(&Crm::builder(storage.clone()).build(), "acme")
        .await
        .1;
    let mut work = session.begin();
    for number in 0..NAMES * NAMES {
        let (first, last) = (number / NAMES, number % NAMES);
        let person = Contact::named(format!("First{first:02}"), format!("Last{last:02}"));
        work.contacts().create(person).await.unwrap();
    }
    work.commit().await.unwrap();
    let people = || (0..NAMES).map(|number| (number, NAMES - 1 - number));
    let read = || -> usize {
        let reads = storage.watch.take().into_iter();
        let contacts = reads.filter(|call| call.kind == "select" && call.object == "contact");
        contacts.map(|call| call.rows).sum()
    };

    let lines = people().map(|(first, last)| format!("First{first:02},Last{last:02},Analyst\n"));
    let source = csv(&format!("First,Last,Title\n{}", lines.collect::<String>()));
    let import = Import {
        keys: vec!["first_name".into(), "last_name".into()],
        ..upsert(
            Mapping::new("contact")
                .column("First", "first_name")
                .column("Last", "last_name")
                .column("Title", "job_title"),
            "",
        )
    };
    read();
    let (_, done) = run(&session, &source, &import).await;
    assert_eq!(figures(&done.counts), [0, 60, 0, 0, 0]);
    let rows = read();
    assert!(rows < NAMES * NAMES * 2 / 3, "{rows} read to find {NAMES}");

    let lines = people().map(|(first, last)| format!("Ask,First{first:02} Last{last:02}\n"));
    let source = csv(&format!("Subject,Who\n{}", lines.collect::<String>()));
    let mut mapping = Mapping::new("activity")
        .column("Subject", "subject")
        .column("Who", "contact_id");
    mapping.columns[1].lookup = Some(Lookup {
        by: "full_name".into(),
        create_missing: false,
    });
    let constants = &mut mapping.constants;
    constants.insert("activity_type".into(), json!("call"));
    let admin = session
        .users()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap();
    constants.insert("owner_id".into(), json!(admin.id.to_string()));
    let trial = session
        .import()
        .dry_run(&source, &Import::new(mapping), &(), &mut |_, _| {})
        .await
        .unwrap();
    assert_eq!(figures(&trial.counts), [60, 0, 0, 0, 0]);
    let rows = read();
    assert!(rows < NAMES * NAMES * 2 / 3, "{rows} read to find {NAMES}");
}

/// C-004: records are known by the number that they have elsewhere, in a field that nobody defined and in
/// one of the tenant's own; others refer to them by it.
#[tokio::test]
async fn records_are_found_by_the_number_that_they_have_elsewhere() {
    use crm_engine::custom_objects::{CustomField, CustomFieldType, TextLimits};
    use crm_engine::value::ApiName;

    let crm = crm();
    for defined in [false, true] {
        let name = if defined { "defined" } else { "untyped" };
        let session = tenant(&crm, name).await.1;
        if defined {
            let api_name = |name| ApiName::parse(name).unwrap();
            let kind = CustomFieldType::Text(TextLimits::default());
            let field = CustomField::new(api_name("account"), api_name("erp"), "ERP", kind);
            session.records().create(field).await.unwrap();
        }
        let accounts = Mapping::new("account")
            .column("No", "custom_fields.erp")
            .column("Name", "name");
        let accounts = upsert(accounts, "custom_fields.erp");
        let source = csv("No,Name\nA-1,Globex\nA-2,Initech\nA-1,Globex again\n,Nobody\n");
        let (_, done) = run(&session, &source, &accounts).await;
        assert_eq!(figures(&done.counts), [2, 0, 0, 1, 1], "{name}");
        let renamed = csv("No,Name\nA-2,Initrode\nA-1,Globex\nA-3,Umbrella\n");
        let trial = session
            .import()
            .dry_run(&renamed, &accounts, &(), &mut |_, _| {})
            .await
            .unwrap();
        let (_, done) = run(&session, &renamed, &accounts).await;
        assert_eq!(figures(&done.counts), [1, 1, 1, 0, 0], "{name}");
        assert!(trial.counts == done.counts);

        let mut people = contacts().column("Firm", "account_id");
        people.columns[4].lookup = Some(Lookup {
            by: "custom_fields.erp".into(),
            create_missing: false,
        });
        let source = csv("First,Last,Mail,Title,Firm\nAda,L,,,A-2\nBob,M,,,A-9\n");
        let (job, done) = run(&session, &source, &Import::new(people)).await;
        assert_eq!(figures(&done.counts), [1, 0, 0, 0, 1], "{name}");
        let fault = codes(&entries(&session, job).await[1]);
        assert_eq!(fault, [(Some("Firm".into()), "not_found".into())], "{name}");
        let find = Find::from(Contact::ACCOUNT_ID.has(Account::NAME.eq("Initrode")));
        assert_eq!(session.contacts().count(find).await.unwrap(), 1, "{name}");
    }
}
