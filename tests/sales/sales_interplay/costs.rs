//! What writes of deals cost: few round trips, and no more for many deals than for one.

use std::fmt::Write as _;
use std::sync::Arc;

use crm_engine::Crm;
use crm_engine::automation::{Action, Assignee, NewActivity};
use crm_engine::deals::DealCompetitor;
use crm_engine::engine::ManualClock;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::prelude::*;

use super::world::{World, entering};
use crate::common::storage::{Calls, Watched};

struct Counted {
    world: World,
    storage: Arc<Watched<Calls>>,
}

impl Counted {
    async fn new() -> Self {
        let storage = Watched::new(Calls::default());
        let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
        let crm = Crm::builder(storage.clone()).clock(clock.clone()).build();
        let world = World::plain(&crm, clock, "acme").await;
        let tag = Action::AddTags {
            tags: vec!["new".into()],
        };
        let rule = entering("tag", world.stages[1], Filter::all(), tag);
        world.session.automation_rules().create(rule).await.unwrap();
        let counted = Self { world, storage };
        // So that the settings are known.
        let deal = counted
            .world
            .session
            .deals()
            .create(counted.deal())
            .await
            .unwrap();
        counted.world.session.deals().win(deal.id).await.unwrap();
        counted
    }

    fn deal(&self) -> Deal {
        Deal {
            amount: Some(100.into()),
            owner_id: Some(self.world.admin),
            contact_id: Some(self.world.contacts[0]),
            account_id: Some(self.world.accounts[0]),
            competitor: Some("Initech".into()),
            ..Deal::new("Rollout", self.world.pipeline)
        }
    }

    /// How many calls were made since the last time.
    fn calls(&self, what: &str) -> usize {
        let calls = self.storage.watch.count(|call| {
            if std::env::var_os("CRM_SHOW_CALLS").is_some() {
                println!("  {} {}", call.kind, call.object);
            }
        });
        println!("{what}: {calls} calls");
        calls
    }
}

/// All commits included.
#[tokio::test]
async fn a_write_of_a_deal_costs_few_round_trips() {
    let c = Counted::new().await;
    let session = &c.world.session;
    c.calls("before");
    let deal = session.deals().create(c.deal()).await.unwrap().id;
    assert!(c.calls("create") <= 3);
    session
        .deals()
        .move_to(deal, c.world.stages[1])
        .await
        .unwrap();
    assert!(c.calls("move") <= 5);
    session
        .deals()
        .update(deal, |deal| deal.amount = Some(200.into()))
        .await
        .unwrap();
    assert!(c.calls("amount") <= 6);
    session.deals().win(deal).await.unwrap();
    assert!(c.calls("win") <= 6);
}

/// Five hundred deals in one commit cost as many reads as a few.
#[tokio::test]
async fn many_deals_in_one_commit_cost_no_more_reads_than_few() {
    let c = Counted::new().await;
    let session = &c.world.session;
    let stages = &c.world.stages;
    let mut costs = Vec::new();
    for count in [5, 300] {
        c.calls("before");
        let mut work = session.begin();
        let deals = (0..count).map(|_| c.deal()).collect();
        let deals = work.deals().create_all(deals).await.unwrap();
        for deal in &deals {
            work.deals().move_to(deal.id, stages[1]).await.unwrap();
            let rival = DealCompetitor::new(deal.id, "Soylent");
            work.records::<DealCompetitor>()
                .create(rival)
                .await
                .unwrap();
        }
        work.commit().await.unwrap();
        let created = c.calls("create and move");
        // The records are read first, as an import does.
        let mut stored = Vec::new();
        for deal in &deals {
            stored.push(session.deals().get(deal.id).await.unwrap());
        }
        c.calls("read");
        let mut work = session.begin();
        for stored in &stored {
            let change = |deal: &mut Deal| {
                deal.contact_id = Some(c.world.contacts[1]);
                deal.competitor = Some("Umbrella".into());
                deal.stage_id = Some(stages[4]);
            };
            work.deals().update_record(stored, change).await.unwrap();
        }
        work.commit().await.unwrap();
        costs.push((created, c.calls("change contact, competitor and stage")));
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].0 <= 6 && costs[0].1 <= 12, "{costs:?}");
}

/// Deals that were closed on many days cost two reads for each month, not for each day, and lines of
/// one product a read or two.
#[tokio::test]
async fn rates_and_prices_are_read_once_for_many_deals() {
    let c = Counted::new().await;
    let session = &c.world.session;
    let day: chrono::NaiveDate = "2025-01-01".parse().unwrap();
    for days in [0, 40, 200] {
        let on = day + chrono::Days::new(days);
        let rate = rust_decimal::Decimal::new(120 + i64::try_from(days).unwrap(), 2);
        let rates = session.exchange_rates();
        { rates }
            .set(Currency::EUR, Currency::USD, on, rate, None)
            .await
            .unwrap();
    }
    c.calls("before");
    let mut work = session.begin();
    let closed = (0..300_u64).map(|days| Deal {
        currency: Currency::EUR,
        stage_id: Some(c.world.stages[4]),
        actual_close_date: Some(day + chrono::Days::new(days)),
        ..c.deal()
    });
    let closed = work.deals().create_all(closed.collect()).await.unwrap();
    work.commit().await.unwrap();
    assert!(c.calls("closed on 300 days") <= 30);
    let rate = |place: usize| closed[place].locked_rate.unwrap().to_string();
    assert_eq!(
        [rate(39), rate(40), rate(199), rate(200)],
        ["1.2", "1.6", "1.6", "3.2"]
    );
    let product = Product {
        unit_price: Some(5.into()),
        currency: Currency::USD,
        ..Product::new("Licence")
    };
    let product = session.products().create(product).await.unwrap().id;
    session
        .products()
        .set_price(product, "7 EUR".parse().unwrap())
        .await
        .unwrap();
    let deal = session
        .deals()
        .create(Deal {
            currency: Currency::EUR,
            ..c.deal()
        })
        .await
        .unwrap();
    c.calls("before");
    let mut work = session.begin();
    for _ in 0..300 {
        work.deals()
            .add_line(DealLine::of_product(deal.id, product))
            .await
            .unwrap();
    }
    work.commit().await.unwrap();
    assert!(c.calls("300 lines") <= 10);
    assert_eq!(
        session.deals().get(deal.id).await.unwrap().amount,
        Some(2_100.into())
    );
}

/// What rules do for many deals is read for once.
#[tokio::test]
async fn rules_read_once_for_many_deals() {
    let c = Counted::new().await;
    let session = &c.world.session;
    let template = ActivityTemplate {
        is_global: true,
        ..ActivityTemplate::new("First call", ActivityType::Call)
    };
    let template = session
        .activity_templates()
        .create(template)
        .await
        .unwrap()
        .id;
    let call = NewActivity {
        owner: Assignee::DealOwner,
        ..NewActivity::new(ActivityType::Call, "Call")
    };
    let actions = vec![
        Action::CreateActivity(call),
        Action::ApplyTemplate {
            template_id: template,
        },
        Action::AssignOwner {
            to: Assignee::User(c.world.admin),
        },
        Action::MoveToStage {
            stage_id: c.world.stages[2],
        },
        super::world::set(serde_json::json!({"contact_id": c.world.contacts[1]})),
        Action::AddNote {
            title: "New".into(),
            body: "It is new".into(),
        },
    ];
    for (place, action) in actions.into_iter().enumerate() {
        let rule = entering(
            &format!("rule {place}"),
            c.world.stages[0],
            Filter::all(),
            action,
        );
        session.automation_rules().create(rule).await.unwrap();
    }
    let mut costs = Vec::new();
    for count in [5, 100] {
        c.calls("before");
        let mut work = session.begin();
        // Whom they are with is read for each of them, as templates speak of it.
        let deal = || Deal {
            contact_id: None,
            account_id: None,
            ..c.deal()
        };
        let deals = (0..count).map(|_| deal()).collect();
        work.deals().create_all(deals).await.unwrap();
        work.commit().await.unwrap();
        costs.push(c.calls("deals with rules"));
    }
    let log = crate::common::rows_of(session, "automation_execution").await;
    assert!(
        log.iter()
            .all(|row| row.get("outcome").as_text() == Some("executed"))
    );
    assert!(costs[1] <= costs[0] + 5, "{costs:?}");
}

/// A pipeline that is made in the same unit of work is not read for each of its deals.
#[tokio::test]
async fn a_new_pipeline_with_many_deals_costs_few_reads() {
    let c = Counted::new().await;
    let mut costs = Vec::new();
    for count in [5, 300] {
        c.calls("before");
        let mut work = c.world.session.begin();
        let pipeline = Pipeline::new(format!("Pipeline of {count}"));
        let pipeline = work.pipelines().create(pipeline).await.unwrap().id;
        let stage = PipelineStage::new(pipeline, "Only", 1_u32);
        work.pipelines().add_stage(stage).await.unwrap();
        let deals = (0..count).map(|_| Deal::new("Rollout", pipeline));
        work.deals().create_all(deals.collect()).await.unwrap();
        work.commit().await.unwrap();
        costs.push(c.calls("pipeline with deals"));
    }
    assert_eq!(costs[0], costs[1]);
}

/// An import is so many batches, not so many deals.
#[tokio::test]
async fn an_import_of_deals_costs_a_few_round_trips_for_each_batch() {
    let c = Counted::new().await;
    let mut costs = Vec::new();
    for count in [20, 500] {
        let mut csv = String::from("name,pipeline,amount,contact\n");
        for number in 0..count {
            let (pipeline, contact) = (c.world.pipeline.uuid(), c.world.contacts[2].uuid());
            writeln!(
                csv,
                "Deal {number} of {count},{pipeline},{number},{contact}"
            )
            .unwrap();
        }
        let mapping = Mapping::new("deal")
            .column("name", "name")
            .column("pipeline", "pipeline_id")
            .column("amount", "amount")
            .column("contact", "contact_id");
        let source = Source::bytes("deals.csv", csv.into_bytes());
        let import = c.world.session.import();
        let job = import.start(&source, &Import::new(mapping)).await.unwrap();
        c.calls("before");
        let done = import.run(job.id, &source, &()).await.unwrap();
        assert_eq!(done.counts.created_rows, count);
        costs.push(c.calls("import"));
    }
    assert!(costs[1] <= 2 * costs[0] && costs[1] < 60, "{costs:?}");
}
