//! Over PostgreSQL: the floors are statements written by hand, through the same pool and so as the
//! same role, with the tenant set as row-level security asks for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crm_engine::PostgresStorage;
use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomValuesExt, TextLimits};
use crm_engine::exchange::import::{Import, ImportExt, ReadOptions, Source};
use crm_engine::imports::ImportMode;
use crm_engine::pipelines::analytics::PipelineView;
use crm_engine::prelude::*;
use crm_engine::query::{Cursor, Filter};
use crm_engine::schema::Value;
use crm_engine::value::ApiName;
use crm_test_postgres::{Database, Server};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool, query_scalar};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::measure::{Medians, Options, Places};
use crate::office::Office;
use crate::plain::{self, Edit, PlainContact};
use crate::summary::{by_stage, deals};

const NAMES: [&str; 18] = [
    "pg_create",
    "pg_create_vs_insert",
    "pg_create_employee",
    "pg_update",
    "pg_update_reading",
    "pg_get",
    "pg_page",
    "pg_page_1000",
    "pg_custom_filter",
    "pg_summary",
    "pg_stage_summary",
    "pg_rescore",
    "pg_bulk",
    "pg_bulk_1000",
    "pg_import",
    "duplicate_check",
    "pg_event_cost",
    "pg_trail_page",
];

/// How many contacts the owner has whose pages are read: a thousand pages, and some more.
const PAGED: i64 = 51_000;

/// How many calls make a batch.
const CALLS: usize = 20;

/// A server, a database in it, and the tenants that are measured.
pub(crate) struct Benches {
    server: Option<Server>,
    name: String,
    runtime: Runtime,
    database: Database,
    crm: Crm,
    /// The application role, which row-level security binds.
    pool: PgPool,
    /// A superuser, whom it does not bind.
    owner: PgPool,
}

impl Benches {
    /// Starts a server if one of the benches is wanted, and says which it is.
    pub(crate) fn open(options: &Options) -> Option<Self> {
        if !NAMES.iter().any(|name| options.wants(name)) {
            return None;
        }
        let named = std::env::var("DATABASE_URL").is_ok_and(|url| !url.is_empty());
        let server = (!named).then(|| {
            let durable = if options.durable { "on" } else { "off" };
            let settings = [
                ("shared_buffers", "512MB"),
                ("fsync", durable),
                ("synchronous_commit", durable),
                ("full_page_writes", durable),
                ("autovacuum", "off"),
                ("max_wal_size", "4GB"),
                ("checkpoint_timeout", "30min"),
            ];
            Server::start(&settings).unwrap()
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let name = format!("crm_bench_{}", std::process::id());
        let (database, pool, owner, crm) = runtime.block_on(async {
            let on = match &server {
                Some(own) => own,
                None => Server::shared().unwrap(),
            };
            let database = Database::on(on, &name, &[]).await.unwrap();
            let pool = database.pool(2).await.unwrap();
            let owner = PgPoolOptions::new()
                .max_connections(2)
                .test_before_acquire(false)
                .connect(database.owner_url())
                .await
                .unwrap();
            let storage = PostgresStorage::new(pool.clone());
            let setting = async |name: &str| -> String {
                let shown = query_scalar("SELECT current_setting($1)").bind(name);
                shown.fetch_one(&owner).await.unwrap()
            };
            println!(
                "# PostgreSQL {}, fsync {}, synchronous_commit {}, shared_buffers {}, \
                 autovacuum {}, {}; nanoseconds",
                setting("server_version").await,
                setting("fsync").await,
                setting("synchronous_commit").await,
                setting("shared_buffers").await,
                setting("autovacuum").await,
                if named {
                    "named by DATABASE_URL"
                } else {
                    "a cluster of its own"
                },
            );
            (database, pool, owner, Crm::builder(storage).build())
        });
        Some(Self {
            server,
            name,
            runtime,
            database,
            crm,
            pool,
            owner,
        })
    }

    /// Runs those that are wanted, and removes what was made.
    pub(crate) fn run(self, options: &Options) {
        self.runtime.block_on(self.fill(options));
        options.run("pg_create", |options| self.create(options));
        options.run("pg_create_vs_insert", |options| {
            self.create_vs_insert(options)
        });
        options.run("pg_create_employee", |options| {
            self.create_employee(options)
        });
        options.run("pg_update", |options| self.update(options, false));
        options.run("pg_update_reading", |options| self.update(options, true));
        options.run("pg_get", |options| self.get(options));
        if options.wants("pg_page_1000") {
            let paged = self.runtime.block_on(self.paged());
            options.run("pg_page", |options| self.page(options, &paged));
            options.run("pg_page_1000", |options| self.page_1000(options, &paged));
        }
        options.run("pg_custom_filter", |options| self.custom_filter(options));
        if options.wants("pg_summary") || options.wants("pg_stage_summary") {
            let (office, pipeline) = self.runtime.block_on(self.deals(options));
            options.run("pg_summary", |options| self.summary(options, &office));
            options.run("pg_stage_summary", |options| {
                self.stage_summary(options, &office, pipeline)
            });
        }
        options.run("pg_rescore", |options| {
            crate::rescore::pg_rescore(&self, options)
        });
        options.run("pg_bulk_1000", |options| self.bulk(options, 1_000));
        options.run("pg_bulk", |options| self.bulk(options, options.records()));
        options.run("pg_import", |options| {
            self.import(options, options.records())
        });
        options.run("duplicate_check", |options| {
            crate::duplicates::duplicate_check(&self, options)
        });
        options.run("pg_event_cost", |options| {
            crate::audit::pg_event_cost(&self, options)
        });
        options.run("pg_trail_page", |options| {
            crate::audit::pg_trail_page(&self, options)
        });
        self.close();
    }

    fn close(self) {
        self.runtime.block_on(async {
            self.pool.close().await;
            self.owner.close().await;
            if self.server.is_none() {
                let server = Server::shared().unwrap();
                let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
                #[allow(clippy::disallowed_types, reason = "a name made of a number")]
                let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {}", self.name));
                sqlx::raw_sql(drop).execute(&mut maintenance).await.unwrap();
            }
        });
    }

    /// Contacts of other tenants.
    async fn fill(&self, options: &Options) {
        let mut owner = self.database.owner().await.unwrap();
        for number in 0..4 {
            let office = self.office(&format!("other-{number}")).await;
            create_one(&office).await;
            let count = i64::try_from(options.records()).unwrap() / 4;
            plain::multiply_contact(&mut owner, office.tenant(), count).await;
        }
        plain::vacuum(&mut owner).await;
    }

    pub(crate) async fn office(&self, subdomain: &str) -> Office {
        Office::enter(&self.crm, subdomain).await.0
    }

    fn id(&self) -> Uuid {
        self.crm.ids().next(self.crm.clock().now())
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A superuser's connection.
    pub(crate) async fn owner(&self) -> PgConnection {
        self.database.owner().await.unwrap()
    }

    /// The pool of the application role.
    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How long the calls of a batch take.
    pub(crate) fn timed(&self, calls: impl Future<Output = ()>) -> Duration {
        self.runtime.block_on(async {
            let begun = Instant::now();
            calls.await;
            begun.elapsed()
        })
    }

    fn create(&self, options: &Options) -> Medians {
        let office = self.runtime.block_on(self.office("create"));
        self.compare(&office);
        options.measure_calls(
            CALLS,
            |count| self.create_ours(&office, count),
            |count| {
                let contacts = office.plain(count);
                self.timed(async {
                    for mut contact in contacts {
                        contact.stamp(self.id(), self.crm.clock().now());
                        let (tenant, event, commit) = (office.tenant(), self.id(), self.id());
                        plain::create(&self.pool, tenant, &contact, event, commit).await;
                    }
                })
            },
        )
    }

    fn create_vs_insert(&self, options: &Options) -> Medians {
        let office = self.runtime.block_on(self.office("insert"));
        options.measure_calls(
            CALLS,
            |count| self.create_ours(&office, count),
            |count| {
                let contacts = office.plain(count);
                self.timed(async {
                    for mut contact in contacts {
                        contact.stamp(self.id(), self.crm.clock().now());
                        plain::insert(&self.owner, office.tenant(), &contact).await;
                    }
                })
            },
        )
    }

    fn create_ours(&self, office: &Office, count: usize) -> Duration {
        let contacts: Vec<Contact> = (0..count).map(|_| office.contact(number())).collect();
        self.timed(async {
            for contact in contacts {
                black_box(office.session.contacts().create(contact).await.unwrap());
            }
        })
    }

    /// A contact who works for an account: with the affiliation that tells of it.
    fn create_employee(&self, options: &Options) -> Medians {
        let office = self.runtime.block_on(self.office("employee"));
        options.measure_calls(
            CALLS,
            |count| {
                let contacts: Vec<Contact> =
                    (0..count).map(|_| office.employee(number())).collect();
                self.timed(async {
                    for contact in contacts {
                        black_box(office.session.contacts().create(contact).await.unwrap());
                    }
                })
            },
            |count| {
                let contacts = office.plain(count);
                self.timed(async {
                    for mut contact in contacts {
                        contact.account_id = Some(office.account.uuid());
                        contact.stamp(self.id(), self.crm.clock().now());
                        let ids = [self.id(), self.id(), self.id(), self.id()];
                        plain::create_employee(&self.pool, office.tenant(), &contact, ids).await;
                    }
                })
            },
        )
    }

    /// Both sides write the same contact and the same event.
    fn compare(&self, office: &Office) {
        self.runtime.block_on(async {
            let made = create_one(office).await;
            let mut plain = office.plain(1).remove(0);
            plain.stamp(self.id(), self.crm.clock().now());
            plain.email = plain.email.map(|email| email.replace("globex", "initech"));
            let (event, commit) = (self.id(), self.id());
            plain::create(&self.pool, office.tenant(), &plain, event, commit).await;
            let stored = office
                .session
                .contacts()
                .get(Id::new(plain.id))
                .await
                .unwrap();
            let stored = Contact {
                email: made.email.clone(),
                ..stored.data.clone()
            };
            assert!(stored == made.data, "the contacts differ");
            let ours = office.session.audit().trail(made.id).await.unwrap();
            let theirs = office
                .session
                .audit()
                .trail(stored_id(&plain))
                .await
                .unwrap();
            let mut ours = ours[0].changes.to_json();
            let mut theirs = theirs[0].changes.to_json();
            ours["email"].take();
            theirs["email"].take();
            assert_eq!(ours, theirs, "the events differ");
        });
    }

    fn update(&self, options: &Options, reading: bool) -> Medians {
        const TITLES: [&str; 3] = ["Buyer", "Director of Operations", "Adviser"];
        const UNITS: [&str; 3] = ["Operations", "Procurement", "Board"];
        let subdomain = if reading { "update-reading" } else { "update" };
        let (office, mut ours, mut theirs) = self.runtime.block_on(async {
            let office = self.office(subdomain).await;
            let create = async || -> Vec<Id<Contact>> {
                let contacts = (0..1_000).map(|_| office.contact(number())).collect();
                let made = office.session.contacts().create_all(contacts).await;
                made.unwrap().iter().map(|contact| contact.id).collect()
            };
            let (ours, plain_ids) = (create().await, create().await);
            let mut theirs = Vec::new();
            for id in plain_ids {
                theirs.push(plain::get(&self.pool, office.tenant(), id.uuid()).await);
            }
            // Without reading, both sides know the contacts as they are.
            let known = office.session.contacts().get_all(&ours).await.unwrap();
            (office, known, theirs)
        });
        let (mut places, mut plain_places) = (Places(0x5EED), Places(0xF1007));
        let (mut turn, mut plain_turn) = (0, 0);
        // Both texts change each time.
        let next = |turn: usize, now: Option<&str>| {
            let again = now == Some(TITLES[turn % TITLES.len()]);
            let place = turn + usize::from(again);
            (
                Some(TITLES[place % TITLES.len()].to_owned()),
                Some(UNITS[place % UNITS.len()].to_owned()),
            )
        };
        options.measure_calls(
            CALLS,
            |count| {
                let some: Vec<usize> = (0..count).map(|_| places.next(ours.len())).collect();
                self.timed(async {
                    for place in some {
                        turn += 1;
                        let mut contacts = office.session.contacts();
                        let change = |contact: &mut Contact| {
                            (contact.job_title, contact.department) =
                                next(turn, contact.job_title.as_deref());
                            contact.preferences.do_not_call = !contact.preferences.do_not_call;
                        };
                        ours[place] = if reading {
                            contacts.update(ours[place].id, change).await.unwrap()
                        } else {
                            contacts.update_record(&ours[place], change).await.unwrap()
                        };
                    }
                })
            },
            |count| {
                let some: Vec<usize> = (0..count)
                    .map(|_| plain_places.next(theirs.len()))
                    .collect();
                self.timed(async {
                    for place in some {
                        let contact = &mut theirs[place];
                        if reading {
                            *contact = plain::get(&self.pool, office.tenant(), contact.id).await;
                        }
                        plain_turn += 1;
                        let (job_title, department) =
                            next(plain_turn, contact.job_title.as_deref());
                        let edit = Edit {
                            at: self.crm.clock().now(),
                            by: office.owner.uuid(),
                            job_title,
                            department,
                            do_not_call: !contact.do_not_call,
                        };
                        let (event, commit) = (self.id(), self.id());
                        plain::update(&self.pool, office.tenant(), contact, edit, event, commit)
                            .await;
                    }
                })
            },
        )
    }

    fn get(&self, options: &Options) -> Medians {
        let (office, ids) = self.runtime.block_on(async {
            let office = self.office("get").await;
            let contacts = (0..2_000).map(|_| office.contact(number())).collect();
            let made = office.session.contacts().create_all(contacts).await;
            let ids: Vec<Id<Contact>> = made.unwrap().iter().map(|contact| contact.id).collect();
            (office, ids)
        });
        let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
        options.measure_calls(
            CALLS,
            |count| {
                let ids = ours.some(&ids, count);
                self.timed(async {
                    for id in ids {
                        black_box(office.session.contacts().get(id).await.unwrap());
                    }
                })
            },
            |count| {
                let ids = floor.some(&ids, count);
                self.timed(async {
                    for id in ids {
                        black_box(plain::get(&self.pool, office.tenant(), id.uuid()).await);
                    }
                })
            },
        )
    }

    /// A tenant in which one user owns a thousand pages of contacts.
    async fn paged(&self) -> Office {
        let office = self.office("page").await;
        create_one(&office).await;
        let mut owner = self.database.owner().await.unwrap();
        plain::multiply_contact(&mut owner, office.tenant(), PAGED).await;
        plain::vacuum(&mut owner).await;
        office
    }

    fn page(&self, options: &Options, office: &Office) -> Medians {
        options.measure_calls(
            CALLS,
            |count| {
                self.timed(async {
                    for _ in 0..count {
                        let page = office.session.contacts().find(newest(office)).await;
                        assert_eq!(black_box(page.unwrap()).items.len(), 50);
                    }
                })
            },
            |count| {
                let owner = office.owner.uuid();
                self.timed(async {
                    for _ in 0..count {
                        let page = plain::newest(&self.pool, office.tenant(), owner).await;
                        assert_eq!(black_box(page).len(), 50);
                    }
                })
            },
        )
    }

    /// The thousandth page; the floor is the first.
    fn page_1000(&self, options: &Options, office: &Office) -> Medians {
        let cursor = self.runtime.block_on(async {
            // 999 pages of 50, in greater steps.
            let mut cursor: Option<Cursor> = None;
            for limit in std::iter::repeat_n(1_000, 49).chain([950]) {
                let mut find = newest(office).limit(limit);
                if let Some(cursor) = cursor.take() {
                    find = find.after(cursor);
                }
                cursor = office.session.contacts().find(find).await.unwrap().next;
            }
            cursor.unwrap()
        });
        let read = |count: usize, cursor: Option<&Cursor>| {
            self.timed(async {
                for _ in 0..count {
                    let mut find = newest(office);
                    if let Some(cursor) = cursor {
                        find = find.after(cursor.clone());
                    }
                    let page = office.session.contacts().find(find).await;
                    assert_eq!(black_box(page.unwrap()).items.len(), 50);
                }
            })
        };
        options.measure_calls(
            CALLS,
            |count| read(count, Some(&cursor)),
            |count| read(count, None),
        )
    }

    /// Ten contacts each: those with a value in a custom field, against those with a value in a
    /// plain column that has an index.
    fn custom_filter(&self, options: &Options) -> Medians {
        let tiers = options.records() / 10;
        let office = self.runtime.block_on(async {
            let office = self.office("custom").await;
            let tier = CustomField {
                is_indexed: true,
                ..CustomField::new(
                    ApiName::parse("contact").unwrap(),
                    ApiName::parse("tier").unwrap(),
                    "Tier",
                    CustomFieldType::Text(TextLimits::default()),
                )
            };
            let tier = office.session.records().create(tier).await.unwrap().id;
            let values = office.session.custom_values();
            values.rebuild(tier, None, &()).await.unwrap();
            let mut numbers = 0..options.records();
            loop {
                let contacts: Vec<Contact> = numbers
                    .by_ref()
                    .take(1_000)
                    .map(|place| {
                        let value = format!("value-{}", place % tiers);
                        let mut contact = office.contact(number());
                        contact.custom_fields = json!({ "tier": value });
                        contact.lead_source = Some(value);
                        contact
                    })
                    .collect();
                if contacts.is_empty() {
                    break;
                }
                office
                    .session
                    .contacts()
                    .create_all(contacts)
                    .await
                    .unwrap();
            }
            let mut owner = self.database.owner().await.unwrap();
            plain::vacuum(&mut owner).await;
            office
        });
        let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
        let values = |places: &mut Places, count| -> Vec<String> {
            (0..count)
                .map(|_| format!("value-{}", places.next(tiers)))
                .collect()
        };
        options.measure_calls(
            CALLS,
            |count| {
                let values = values(&mut ours, count);
                self.timed(async {
                    for value in values {
                        let filter = Filter::eq("custom_fields.tier", value);
                        let find = Find::new().filter_by_name(filter).limit(50);
                        let page = office.session.contacts().find(find).await;
                        assert_eq!(black_box(page.unwrap()).items.len(), 10);
                    }
                })
            },
            |count| {
                let values = values(&mut floor, count);
                self.timed(async {
                    for value in values {
                        let page = plain::by_source(&self.pool, office.tenant(), &value).await;
                        assert_eq!(black_box(page).len(), 10);
                    }
                })
            },
        )
    }

    /// A tenant with deals in the stages of its pipeline.
    async fn deals(&self, options: &Options) -> (Office, Id<Pipeline>) {
        let (office, made) = Office::enter(&self.crm, "summary").await;
        let deal = Deal {
            amount: Some(1_000.into()),
            currency: "EUR".parse().unwrap(),
            owner_id: Some(office.owner),
            ..Deal::new("Rollout", made.pipeline)
        };
        office.session.deals().create(deal).await.unwrap();
        let stages: Vec<Uuid> = made.stages.iter().map(|stage| stage.uuid()).collect();
        let mut owner = self.database.owner().await.unwrap();
        let count = i64::try_from(deals(options)).unwrap();
        plain::multiply_deal(&mut owner, office.tenant(), &stages, count).await;
        plain::vacuum(&mut owner).await;
        (office, made.pipeline)
    }

    /// The summary of a pipeline: by stage, owner, month and currency.
    fn stage_summary(&self, options: &Options, office: &Office, pipeline: Id<Pipeline>) -> Medians {
        let view = PipelineView::of(pipeline);
        let groups = self.runtime.block_on(async {
            let ours = office.session.pipelines().stage_summary(&view).await;
            let theirs = plain::stage_summary(&self.pool, office.tenant(), pipeline.uuid()).await;
            let told = ours.unwrap().into_iter().map(|one| {
                let group = (one.stage.uuid(), one.owner.map(|id| id.uuid()), one.month);
                let sums = (one.amount.normalize(), one.weighted.normalize());
                let deals = i64::try_from(one.deals).unwrap();
                (group, one.currency.to_string(), deals, sums)
            });
            assert_eq!(told.collect::<Vec<_>>(), theirs);
            theirs.len()
        });
        options.measure_calls(
            2,
            |count| {
                self.timed(async {
                    for _ in 0..count {
                        let told = office.session.pipelines().stage_summary(&view).await;
                        assert_eq!(black_box(told.unwrap()).len(), groups);
                    }
                })
            },
            |count| {
                self.timed(async {
                    for _ in 0..count {
                        let (tenant, pipeline) = (office.tenant(), pipeline.uuid());
                        let told = plain::stage_summary(&self.pool, tenant, pipeline).await;
                        assert_eq!(black_box(told).len(), groups);
                    }
                })
            },
        )
    }

    fn summary(&self, options: &Options, office: &Office) -> Medians {
        let euro: Currency = "EUR".parse().unwrap();
        let by_stage = || by_stage(euro);
        self.runtime.block_on(async {
            let ours = office.session.deals().aggregate(by_stage()).await.unwrap();
            let theirs = plain::deals_by_stage(&self.pool, office.tenant(), "EUR").await;
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                let measures = [
                    Value::Integer(theirs.count),
                    Value::Decimal(theirs.amount.normalize()),
                    Value::Decimal(theirs.weighted.normalize()),
                ];
                assert_eq!(ours.keys, [Value::Uuid(theirs.stage)]);
                assert_eq!(ours.measures, measures);
            }
        });
        options.measure_calls(
            2,
            |count| {
                self.timed(async {
                    for _ in 0..count {
                        let groups = office.session.deals().aggregate(by_stage()).await;
                        assert_eq!(black_box(groups.unwrap()).len(), 6);
                    }
                })
            },
            |count| {
                self.timed(async {
                    for _ in 0..count {
                        let groups =
                            plain::deals_by_stage(&self.pool, office.tenant(), "EUR").await;
                        assert_eq!(black_box(groups).len(), 6);
                    }
                })
            },
        )
    }

    /// A CSV file of contacts: parsed, checked, found to be new by e-mail address, written with their
    /// events and with what became of each row.
    fn import(&self, options: &Options, size: usize) -> Medians {
        let office = self.runtime.block_on(self.office("import"));
        let mut owner = self.runtime.block_on(self.database.owner()).unwrap();
        options.measure_rows(
            size,
            || {
                let source = Source::bytes("contacts.csv", Office::csv(size).into_bytes());
                self.timed(async {
                    let importer = office.session.import();
                    let read = ReadOptions::default();
                    let preview = importer.preview("contact", &source, &read).await;
                    let import = Import {
                        mode: ImportMode::Upsert,
                        keys: vec!["email".into()],
                        ..Import::new(preview.unwrap().mapping)
                    };
                    let job = importer.start(&source, &import).await.unwrap();
                    let done = importer.run(job.id, &source, &()).await.unwrap();
                    assert_eq!(black_box(done).counts.created_rows, size as i64);
                })
            },
            || {
                let mut contacts = office.plain(size);
                self.timed(async {
                    let at = self.crm.clock().now();
                    for contact in &mut contacts {
                        contact.stamp(self.crm.ids().next(at), at);
                    }
                    let (tenant, commit) = (office.tenant(), self.id());
                    let id = || self.crm.ids().next(at);
                    plain::copy(&mut owner, tenant, &contacts, commit, id).await;
                })
            },
        )
    }

    /// Many contacts in one commit.
    fn bulk(&self, options: &Options, size: usize) -> Medians {
        let office = self.runtime.block_on(self.office(&format!("bulk-{size}")));
        let mut owner = self.runtime.block_on(self.database.owner()).unwrap();
        options.measure_rows(
            size,
            || {
                let contacts = (0..size).map(|_| office.contact(number())).collect();
                self.timed(async {
                    let made = office.session.contacts().create_all(contacts).await;
                    assert_eq!(black_box(made.unwrap()).len(), size);
                })
            },
            || {
                let mut contacts = office.plain(size);
                self.timed(async {
                    let at = self.crm.clock().now();
                    for contact in &mut contacts {
                        contact.stamp(self.crm.ids().next(at), at);
                    }
                    let (tenant, commit) = (office.tenant(), self.id());
                    let id = || self.crm.ids().next(at);
                    plain::copy(&mut owner, tenant, &contacts, commit, id).await;
                })
            },
        )
    }
}

impl Office {
    pub(crate) fn tenant(&self) -> Uuid {
        self.session.tenant().unwrap().uuid()
    }

    /// The same contacts as a file.
    fn csv(count: usize) -> String {
        let mut text = String::from(
            "first_name,last_name,email,phone,company,job_title,department,mailing_street,\
             mailing_city,mailing_postal_code,mailing_country,lead_source,description,tags\n",
        );
        for _ in 0..count {
            text.push_str(&format!(
                "Maria,Lopez,maria.lopez.{}@globex.example,+34 912 34 56 78,Globex Corporation,\
                 Head of Procurement,Operations,Calle Mayor 17,Madrid,28013,ES,trade fair,\
                 Met at the fair; wants an offer for three sites by spring.,key-account;fair-2026\n",
                number(),
            ));
        }
        text
    }

    fn plain(&self, count: usize) -> Vec<PlainContact> {
        (0..count)
            .map(|_| PlainContact::example(number(), self.owner.uuid()))
            .collect()
    }
}

async fn create_one(office: &Office) -> std::sync::Arc<Record<Contact>> {
    let contact = office.contact(number());
    office.session.contacts().create(contact).await.unwrap()
}

fn stored_id(contact: &PlainContact) -> Id<Contact> {
    Id::new(contact.id)
}

fn newest(office: &Office) -> Find<Contact> {
    Find::from(Contact::OWNER_ID.eq(office.owner))
        .sort(Contact::CREATED_AT.desc())
        .limit(50)
}

/// A number that no other contact has.
fn number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
