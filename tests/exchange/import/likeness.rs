//! Rows that are like stored records or like each other by the tenant's duplicate rules: a dry run says
//! what a run does, whatever the size of the batches and however often the run is stopped.

use crm_engine::duplicates::{Criterion, MatchRule, Method, PhoneticAlgorithm};
use crm_engine::schema::Row;

use super::*;

/// What is said of a row: its number, what became of it, and why.
type Said = (u64, RowOutcome, Vec<String>);

fn said(row: &RowResult) -> Said {
    let faults = row.faults.iter().map(ToString::to_string).collect();
    (row.number, row.outcome, faults)
}

/// What a tenant has before an import, and the import.
#[derive(Clone, Debug)]
struct Case {
    rules: Vec<(DuplicateMode, Likeness)>,
    stored: Vec<Person>,
    file: Vec<Person>,
    import: Import,
}

/// First name, family name, e-mail address, job title.
type Person = [&'static str; 4];

#[derive(Clone, Copy, Debug)]
enum Likeness {
    Mail,
    /// Found only among those who share a key, which likeness alone does not give.
    Names,
    Sound,
}

impl Likeness {
    fn rule(self) -> MatchRule {
        let like = |at_least| Method::JaroWinkler { at_least };
        let sound = Method::Phonetic {
            algorithm: PhoneticAlgorithm::Soundex,
        };
        let field = Criterion::field;
        MatchRule::new(match self {
            Self::Mail => field("email", Method::Email),
            Self::Names => Criterion::All(vec![
                field("last_name", like(0.8)),
                field("first_name", like(0.8)),
            ]),
            Self::Sound => Criterion::All(vec![
                field("last_name", sound),
                field("first_name", like(0.75)),
            ]),
        })
    }
}

/// How an import is tried.
#[derive(Clone, Copy, Debug)]
enum Trial {
    Dry,
    Whole,
    /// Stopped after each batch and gone on with.
    InSteps,
}

impl Case {
    async fn session(&self, crm: &Crm, name: &str) -> Session {
        let (_, session) = tenant(crm, name).await;
        for (place, (mode, likeness)) in self.rules.iter().enumerate() {
            let rule = DuplicateRule {
                name: format!("rule {place}"),
                mode: *mode,
                position: place as i32,
                rule: likeness.rule(),
                ..DuplicateRule::contacts()
            };
            session.duplicate_rules().create(rule).await.unwrap();
        }
        for [first, last, mail, title] in &self.stored {
            let contact = Contact {
                email: mail.parse().ok(),
                job_title: Some((*title).to_owned()).filter(|title| !title.is_empty()),
                ..Contact::named(*first, *last)
            };
            // Some are refused by strict rules or keys; in each tenant the same ones.
            let _ = session.contacts().create(contact).await;
        }
        session
    }

    fn source(&self) -> Source {
        let rows = self.file.iter().map(|row| row.join(",") + "\n");
        csv(&(String::from("First,Last,Mail,Title\n") + &rows.collect::<String>()))
    }

    async fn hear(&self, session: &Session, batch_size: usize, trial: Trial) -> Vec<Said> {
        let (source, mut heard) = (self.source(), Vec::new());
        let import = Import {
            batch_size,
            ..self.import.clone()
        };
        let importer = session.import();
        let mut report = |_: &[_], row: &RowResult| heard.push(said(row));
        if let Trial::Dry = trial {
            let trial = importer.dry_run(&source, &import, &(), &mut report);
            trial.await.unwrap();
            return heard;
        }
        let job = importer.start(&source, &import).await.unwrap().id;
        let step = |_: u64, _: Option<u64>| match trial {
            Trial::InSteps => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        loop {
            let run = importer.resume(job, &source, false, &step, &mut report);
            let outcome = run.await.unwrap();
            let is_all = outcome.counts.processed_rows == self.file.len() as i64;
            if outcome.status == ImportStatus::Completed || is_all {
                return heard;
            }
        }
    }

    /// Dry and real runs of every size of batches, each in a tenant of its own, say the same of every
    /// row and leave the same records.
    async fn holds(&self, crm: &Crm, name: &str, sizes: &[usize]) -> Vec<Said> {
        let mut first: Option<(Vec<Said>, Vec<String>)> = None;
        for size in sizes {
            for trial in [Trial::Whole, Trial::InSteps] {
                let name = format!("{name}-{size}-{trial:?}").to_lowercase();
                let session = self.session(crm, &name).await;
                let before = people(&session).await;
                let dry = self.hear(&session, *size, Trial::Dry).await;
                assert_eq!(people(&session).await, before, "a dry run writes nothing");
                let did = self.hear(&session, *size, trial).await;
                assert_eq!(
                    dry, did,
                    "dry run and run by {size} rows, {trial:?}: {self:?}"
                );
                let now = (did, people(&session).await);
                match &first {
                    Some(first) => assert_eq!(first, &now, "by {size} rows, {trial:?}: {self:?}"),
                    None => first = Some(now),
                }
            }
        }
        first.unwrap().0
    }
}

async fn people(session: &Session) -> Vec<String> {
    let rows = rows_of(session, "contact").await;
    let line = |row: &Row| {
        let fields = ["first_name", "last_name", "email", "job_title"];
        fields.map(|name| format!("{:?}", row.get(name))).join(" ")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

fn import(mode: ImportMode, key: &str, duplicates: DuplicateHandling) -> Import {
    let keys = if mode == ImportMode::Create {
        Vec::new()
    } else {
        vec![key.to_owned()]
    };
    Import {
        mode,
        keys,
        duplicates,
        ..Import::new(contacts())
    }
}

const SIZES: [usize; 4] = [1, 2, 3, 500];
const HANDLINGS: [DuplicateHandling; 3] = [
    DuplicateHandling::Skip,
    DuplicateHandling::Refuse,
    DuplicateHandling::Keep,
];

fn outcomes(said: &[Said]) -> Vec<RowOutcome> {
    said.iter().map(|(_, outcome, _)| *outcome).collect()
}

/// What a row that is like another one becomes.
const fn of_double(duplicates: DuplicateHandling) -> RowOutcome {
    match duplicates {
        DuplicateHandling::Skip => RowOutcome::Skipped,
        DuplicateHandling::Refuse => RowOutcome::Failed,
        DuplicateHandling::Keep => RowOutcome::Created,
    }
}

#[tokio::test]
async fn rows_that_are_like_each_other_are_found_in_batches_of_any_size() {
    let crm = crm();
    let file = vec![
        ["Anna", "Meyer", "a@x.example", "one"],
        ["Ben", "Okafor", "b@x.example", "two"],
        ["Anna", "Meier", "c@x.example", "three"],
        ["Carla", "Rossi", "d@x.example", "four"],
        ["Hanna", "Meyer", "e@x.example", "five"],
        ["Karla", "Rossi", "f@x.example", "six"],
    ];
    let rules = [
        vec![DuplicateMode::Warn],
        vec![DuplicateMode::Strict],
        vec![DuplicateMode::Warn, DuplicateMode::Strict],
    ];
    for (place, modes) in rules.into_iter().enumerate() {
        for duplicates in HANDLINGS {
            for mode in [ImportMode::Create, ImportMode::Upsert] {
                let likeness = [Likeness::Sound, Likeness::Names];
                let case = Case {
                    rules: modes.iter().copied().zip(likeness).collect(),
                    stored: vec![["Dora", "Nkosi", "n@x.example", "known"]],
                    file: file.clone(),
                    import: import(mode, "job_title", duplicates),
                };
                let name = format!("{place}-{duplicates:?}-{mode:?}");
                let said = case.holds(&crm, &name, &SIZES).await;
                let double = of_double(duplicates);
                let created = RowOutcome::Created;
                let wanted = [created, created, double, created, double, double];
                // What two rules find is more than what one does: K for C changes the sound.
                let wanted = &wanted[..5];
                assert_eq!(&outcomes(&said)[..5], wanted, "{case:?}");
                if duplicates != DuplicateHandling::Keep {
                    assert!(said[2].2[0].contains("duplicate rule"), "{:?}", said[2].2);
                }
            }
        }
    }
}

/// A row that changes a record is refused by strict rules only, and later rows are compared with the
/// record as it is then.
#[tokio::test]
async fn rows_are_compared_with_records_as_earlier_rows_left_them() {
    let crm = crm();
    let file = vec![
        // Takes the address of the first record away, ...
        ["Anna", "Meyer", "new@x.example", "one"],
        // ... which is free for another one then, ...
        ["Ben", "Okafor", "a@x.example", "two"],
        // ... while the new one is taken.
        ["Carla", "Rossi", "new+x@x.example", "three"],
        ["Dora", "Nkosi", "a+b@x.example", "known"],
    ];
    for mode in [DuplicateMode::Warn, DuplicateMode::Strict] {
        for duplicates in HANDLINGS {
            let case = Case {
                rules: vec![(mode, Likeness::Mail)],
                stored: vec![
                    ["Anna", "Meyer", "a@x.example", "one"],
                    ["Dora", "Nkosi", "n@x.example", "known"],
                ],
                file: file.clone(),
                import: import(ImportMode::Upsert, "job_title", duplicates),
            };
            let name = format!("{mode:?}-{duplicates:?}");
            let said = case.holds(&crm, &name, &SIZES).await;
            let double = of_double(duplicates);
            let is_refused = mode == DuplicateMode::Strict && duplicates != DuplicateHandling::Keep;
            let last = if is_refused {
                double
            } else {
                RowOutcome::Updated
            };
            let wanted = [RowOutcome::Updated, RowOutcome::Created, double, last];
            assert_eq!(outcomes(&said), wanted, "{case:?}");
        }
    }
}

/// A strict rule of the accounts that rows make on the way is one of the rows' too.
#[tokio::test]
async fn new_accounts_of_rows_that_are_like_each_other_are_told_by_a_dry_run() {
    let crm = crm();
    let source = csv("First,Last,Company\nA,B,Globex Corp.\nC,D,Globex Inc.\nE,F,Globex Corp.\n");
    let mut mapping = Mapping::new("contact")
        .column("First", "first_name")
        .column("Last", "last_name")
        .column("Company", "account_id");
    mapping.columns[2].lookup = Some(Lookup {
        by: "name".into(),
        create_missing: true,
    });
    for (name, duplicates) in ["skip", "refuse", "keep"].into_iter().zip(HANDLINGS) {
        for batch_size in [1, 2, 500] {
            let (_, session) = tenant(&crm, &format!("{name}-{batch_size}")).await;
            let rule = DuplicateRule {
                mode: DuplicateMode::Strict,
                ..DuplicateRule::companies()
            };
            session.duplicate_rules().create(rule).await.unwrap();
            let import = Import {
                duplicates,
                batch_size,
                ..Import::new(mapping.clone())
            };
            let mut heard = Vec::new();
            let mut report = |_: &[_], row: &RowResult| heard.push(said(row));
            let importer = session.import();
            let trial = importer.dry_run(&source, &import, &(), &mut report);
            trial.await.unwrap();
            let job = importer.start(&source, &import).await.unwrap().id;
            let mut did = Vec::new();
            let mut report = |_: &[_], row: &RowResult| did.push(said(row));
            let run = importer.resume(job, &source, false, &(), &mut report);
            run.await.unwrap();
            assert_eq!(heard, did);
            let second = of_double(duplicates);
            let created = RowOutcome::Created;
            assert_eq!(outcomes(&did), [created, second, created]);
        }
    }
}

fn cases() -> impl Strategy<Value = (Case, [usize; 2])> {
    let person = || {
        let first = prop::sample::select(vec!["Anna", "Ana", "Hanna", "Ben", "Benno"]);
        let last = prop::sample::select(vec!["Meyer", "Meier", "Maier", "Okafor", "Neyer"]);
        let mails = vec![
            "",
            "a@x.example",
            "A+b@x.example",
            "b@x.example",
            "c@x.example",
        ];
        let title = prop::sample::select(vec!["", "one", "two", "three", "four", "five"]);
        let mail = prop::sample::select(mails);
        (first, last, mail, title).prop_map(|(first, last, mail, title)| [first, last, mail, title])
    };
    let mode = prop::sample::select(vec![DuplicateMode::Warn, DuplicateMode::Strict]);
    let likeness = vec![Likeness::Mail, Likeness::Names, Likeness::Sound];
    let rules = prop::collection::vec((mode, prop::sample::select(likeness)), 1..4);
    let modes = vec![ImportMode::Create, ImportMode::Update, ImportMode::Upsert];
    let imports = (
        prop::sample::select(modes),
        prop::sample::select(vec!["email", "job_title"]),
        prop::sample::select(HANDLINGS.to_vec()),
    );
    let import = imports.prop_map(|(mode, key, duplicates)| import(mode, key, duplicates));
    let stored = prop::collection::vec(person(), 0..5);
    let file = prop::collection::vec(person(), 1..10);
    let case = (rules, stored, file, import).prop_map(|(rules, stored, file, import)| Case {
        rules,
        stored,
        file,
        import,
    });
    let sizes = prop::sample::select(vec![[1, 500], [2, 3], [1, 4], [3, 500], [2, 7]]);
    (case, sizes)
}

#[test]
fn a_dry_run_says_what_a_run_does_in_batches_of_any_size_under_any_rules() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    let on_postgres = std::env::var("CRM_TEST_STORAGE").is_ok_and(|storage| storage == "postgres");
    let mut runner = TestRunner::new(ProptestConfig {
        cases: crate::common::cases(if on_postgres { 24 } else { 256 }),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let property = |(case, sizes): (Case, [usize; 2])| {
        number.set(number.get() + 1);
        let name = format!("acme-{}", number.get());
        runtime.block_on(case.holds(&crm, &name, &sizes));
        Ok(())
    };
    runner.run(&cases(), property).unwrap();
}

#[tokio::test]
async fn rows_like_stored_records_are_duplicates_by_the_tenants_rules() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    globex_by(&session, DuplicateMode::Warn).await;
    let source = csv("Company\nGlobex Corp.\nInitech\n");
    let trial = session
        .import()
        .dry_run(
            &source,
            &companies(DuplicateHandling::Skip),
            &(),
            &mut |_, _| {},
        )
        .await
        .unwrap();
    let (job, done) = run(&session, &source, &companies(DuplicateHandling::Skip)).await;
    assert!(trial.counts == done.counts);
    assert_eq!(figures(&done.counts), [1, 0, 0, 1, 0]);
    assert_eq!(
        entries(&session, job).await[0].row_faults()[0].code,
        "duplicate_found"
    );
    let (_, done) = run(&session, &source, &companies(DuplicateHandling::Refuse)).await;
    assert_eq!(figures(&done.counts), [0, 0, 0, 0, 2]);
    let (_, done) = run(&session, &source, &companies(DuplicateHandling::Keep)).await;
    assert_eq!(done.counts.created_rows, 2);
}

/// A strict rule refuses what it finds, whichever way it comes; an import that keeps duplicates says
/// that they are meant, those among its own rows too.
#[tokio::test]
async fn an_import_may_keep_what_a_strict_rule_would_refuse() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    globex_by(&session, DuplicateMode::Strict).await;
    let source = csv("Company\nGlobex Corp.\nInitech\nInitech Inc.\nHooli\n");
    let (job, done) = run(&session, &source, &companies(DuplicateHandling::Skip)).await;
    assert_eq!(figures(&done.counts), [2, 0, 0, 2, 0]);
    let importer = session.import();
    importer.revert(job, &()).await.unwrap();
    let (_, done) = run(&session, &source, &companies(DuplicateHandling::Keep)).await;
    assert_eq!(figures(&done.counts), [4, 0, 0, 0, 0]);
    assert_eq!(
        rows_of(&session, "account")
            .await
            .iter()
            .filter(|row| !row.is_deleted())
            .count(),
        5
    );
}

/// A rule on the names of companies, and the company that is there.
async fn globex_by(session: &Session, mode: DuplicateMode) {
    let rule = DuplicateRule {
        mode,
        ..DuplicateRule::companies()
    };
    let rules = session.records::<DuplicateRule>().create(rule).await;
    rules.unwrap();
    let globex = Account::new("Globex Corporation");
    session.accounts().create(globex).await.unwrap();
}

/// An import of companies.
fn companies(duplicates: DuplicateHandling) -> Import {
    let mapping = Mapping::new("account").column("Company", "name");
    Import {
        duplicates,
        ..Import::new(mapping)
    }
}
