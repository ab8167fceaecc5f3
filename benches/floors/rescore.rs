//! All leads of a tenant scored anew: read, scored and, where a score changed, written with its history.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crm_engine::prelude::*;
use crm_engine::schema::AnyRecord as _;
use crm_engine::scoring::ScoringOperator;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};
use crate::office::{Office, ready};
use crate::scoring::{by_hand, fifty, random_lead, rule};

/// A tenant with leads. Each round publishes a rule set: the fifty rules, and one that every lead
/// meets, whose points are others each time.
pub(crate) struct Desk {
    pub(crate) session: Session,
    pub(crate) leads: usize,
    round: usize,
}

impl Desk {
    pub(crate) async fn open(session: Session, leads: usize) -> Self {
        let mut places = Places(0x5EED);
        let numbers: Vec<usize> = (0..leads).collect();
        for some in numbers.chunks(1_000) {
            let lead = |number: &usize| {
                let mut lead = random_lead(&mut places);
                // The engine writes it; without it rules over its age are met by no lead.
                lead.last_activity_at = None;
                if lead.email.is_some() {
                    lead.email = format!("ada.{number}@globex.example").parse().ok();
                }
                lead
            };
            let made = some.iter().map(lead).collect();
            session.leads().create_all(made).await.unwrap();
        }
        Self {
            session,
            leads,
            round: 0,
        }
    }

    /// What every lead gets in this round.
    pub(crate) const fn extra(round: usize) -> i32 {
        if round.is_multiple_of(2) { 20 } else { 35 }
    }

    /// Scores all leads by the next set, which is published before the clock starts.
    pub(crate) async fn rescore(&mut self) -> Duration {
        self.round += 1;
        let set = LeadScoringRuleSet::new(format!("Round {}", self.round));
        let mut sets = self.session.scoring_rule_sets();
        let set = sets.create(set).await.unwrap().id;
        let extra = Self::extra(self.round);
        let all = ("company", ScoringOperator::Exists, Json::Null, extra);
        let rules = fifty().into_iter().chain([all]).enumerate();
        let rules = rules.map(|(number, plain)| rule(set, number, plain));
        let mut made = self.session.scoring_rules();
        made.create_all(rules.collect()).await.unwrap();
        sets.publish(set).await.unwrap();
        let begun = Instant::now();
        let done = self.session.leads().rescore_all(&()).await.unwrap();
        let lasted = begun.elapsed();
        assert_eq!(black_box(done).checked, self.leads as u64);
        assert!(2 * done.changed > self.leads as u64, "most scores change");
        lasted
    }
}

/// What a program without an engine would keep.
#[derive(Default)]
struct Shelf {
    leads: HashMap<Uuid, Arc<Record<Lead>>>,
    history: Vec<PlainEntry>,
}

#[allow(dead_code, reason = "kept like a real entry, and never read")]
struct PlainEntry {
    lead: Uuid,
    at: DateTime<Utc>,
    change: i64,
    before: Score,
    after: Score,
}

fn rescore_by_hand(shelf: &Mutex<Shelf>, extra: i32, now: DateTime<Utc>) -> usize {
    let leads: Vec<Arc<Record<Lead>>> = shelf.lock().unwrap().leads.values().cloned().collect();
    let mut changed = 0;
    for lead in leads {
        let total = by_hand(&lead, now) + i64::from(extra);
        let after = Score::clamped(total);
        if after == lead.lead_score {
            continue;
        }
        changed += 1;
        let mut next = lead.data.clone();
        next.lead_score = after;
        next.score_total = i32::try_from(total).unwrap();
        let entry = PlainEntry {
            lead: lead.id.uuid(),
            at: now,
            change: total - i64::from(lead.score_total),
            before: lead.lead_score,
            after,
        };
        let mut shelf = shelf.lock().unwrap();
        let next = Arc::new(Record::new(lead.meta(), next));
        shelf.leads.insert(entry.lead, next);
        shelf.history.push(entry);
    }
    changed
}

/// `rescore_all` in memory, over a map of leads and a list of changes behind one lock.
pub(crate) fn mem_rescore(options: &Options) -> Medians {
    let count = options.records();
    let office = Office::open();
    let mut desk = ready(Desk::open(office.session, count));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let mut find = Find::new().limit(100);
        if let Some(cursor) = after {
            find = find.after(cursor);
        }
        let page = ready(desk.session.leads().find(find)).unwrap();
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let leads = all.iter().map(|lead| {
        let copy = Arc::new(Record::clone(lead));
        (lead.id.uuid(), copy)
    });
    let shelf = Mutex::new(Shelf {
        leads: leads.collect(),
        history: Vec::new(),
    });
    assert_eq!(shelf.lock().unwrap().leads.len(), count);
    drop(all);
    let now = desk.session.engine().clock().now();
    let mut round = 0;
    options.measure_rows(
        count,
        || ready(desk.rescore()),
        || {
            round += 1;
            timed(|| {
                let changed = rescore_by_hand(&shelf, Desk::extra(round), now);
                assert!(2 * black_box(changed) > count);
            })
        },
    )
}

#[cfg(feature = "postgres")]
pub(crate) use over_postgres::pg_rescore;

#[cfg(feature = "postgres")]
mod over_postgres {
    use super::{Desk, Medians, Options, black_box, by_hand};
    use chrono::{DateTime, Utc};
    use crm_engine::Stamp;
    use crm_engine::prelude::*;
    use crm_engine::schema::Meta;
    use sqlx::postgres::PgRow;
    use sqlx::{PgPool, Row as _, query};
    use uuid::Uuid;

    use crate::postgres::Benches;

    const READ: &str = "WITH scope AS MATERIALIZED \
        (SELECT set_config('crm.tenant_id', $1::text, true) IS NOT NULL AS is_set) \
        SELECT r.* FROM scope CROSS JOIN LATERAL (SELECT id, version, company, job_title, industry, \
        lead_source, mailing_country, employee_count, annual_revenue, decision_maker, \
        interest_level, rating, email, tags, custom_fields, last_activity_at, lead_score, \
        score_total FROM crm.leads WHERE scope.is_set AND tenant_id = $1 AND id > $2 \
        AND deleted_at IS NULL AND archived_at IS NULL \
        AND status NOT IN ('converted', 'archived') ORDER BY id LIMIT 500) AS r";

    const WRITE: &str = "WITH changed AS (SELECT c.* FROM unnest($2::uuid[], $3::bigint[], \
        $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::uuid[], $9::uuid[]) AS c (id, \
        version, score, total, old_score, old_total, entry, event)), \
        leads AS (UPDATE crm.leads AS l SET version = l.version + 1, updated_at = $10, \
        updated_by = 'user', updated_by_id = $11, lead_score = c.score, score_total = c.total \
        FROM changed AS c WHERE l.tenant_id = $1 AND l.id = c.id AND l.version = c.version \
        RETURNING l.id), \
        entries AS (INSERT INTO crm.lead_scoring_history (tenant_id, id, version, created_at, \
        created_by, created_by_id, updated_at, updated_by, updated_by_id, lead_id, cause, \
        score_change, previous_score, new_score) SELECT $1, entry, 1, $10, 'user', $11, $10, \
        'user', $11, id, 'rules', total - old_total, old_score, score FROM changed), \
        events AS (INSERT INTO crm.audit_events (tenant_id, id, version, created_at, created_by, \
        created_by_id, updated_at, updated_by, updated_by_id, commit_id, event, category, object, \
        record_id, record_version, changes) SELECT $1, event, 1, $10, 'user', $11, $10, 'user', \
        $11, $12, 'update', 'data_change', 'lead', id, version + 1, jsonb_build_object( \
        'lead_score', jsonb_build_object('old', old_score, 'new', score), \
        'score_total', jsonb_build_object('old', old_total, 'new', total)) FROM changed) \
        SELECT count(*) FROM leads";

    /// The fields that the conditions look at.
    fn read(row: &PgRow) -> Record<Lead> {
        let parsed = |name: &str| row.get::<Option<&str>, _>(name);
        let mut lead = Lead {
            company: row.get("company"),
            job_title: row.get("job_title"),
            industry: row.get("industry"),
            ..Lead::default()
        };
        lead.source.lead_source = row.get("lead_source");
        let country = parsed("mailing_country").and_then(|code| TextValue::parse(code).ok());
        lead.mailing_address = Some(Address {
            country,
            ..Address::default()
        });
        let staff: Option<i64> = row.get("employee_count");
        lead.employee_count = staff.and_then(|staff| i32::try_from(staff).ok());
        lead.annual_revenue = row.get("annual_revenue");
        lead.decision_maker = row.get("decision_maker");
        lead.interest_level = row.get::<&str, _>("interest_level").parse().unwrap();
        lead.rating = parsed("rating").and_then(|rating| rating.parse().ok());
        lead.email = parsed("email").and_then(|email| EmailAddress::parse(email).ok());
        lead.tags = row.get("tags");
        lead.custom_fields = row.get("custom_fields");
        lead.last_activity_at = row.get("last_activity_at");
        lead.lead_score = Score::clamped(row.get("lead_score"));
        lead.score_total = i32::try_from(row.get::<i64, _>("score_total")).unwrap();
        let stamp = Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let mut meta = Meta::first(row.get("id"), stamp);
        meta.version = row.get("version");
        Record::new(meta, lead)
    }

    async fn rescore_by_hand(
        pool: &PgPool,
        (tenant, by): (Uuid, Uuid),
        extra: i32,
        now: DateTime<Utc>,
        id: impl Fn() -> Uuid,
    ) -> (usize, usize) {
        let (mut checked, mut changed, mut after) = (0, 0, Uuid::nil());
        loop {
            let rows = query(READ).bind(tenant).bind(after).fetch_all(pool).await;
            let rows = rows.unwrap();
            checked += rows.len();
            let (mut ids, mut versions, mut scores) = (Vec::new(), Vec::new(), Vec::new());
            let (mut totals, mut old_scores, mut old_totals) = (Vec::new(), Vec::new(), Vec::new());
            let (mut entries, mut events) = (Vec::new(), Vec::new());
            for lead in rows.iter().map(read) {
                after = lead.id.uuid();
                let total = by_hand(&lead, now) + i64::from(extra);
                let score = Score::clamped(total);
                if score == lead.lead_score {
                    continue;
                }
                ids.push(after);
                versions.push(lead.version);
                scores.push(i64::from(score.value()));
                totals.push(total);
                old_scores.push(i64::from(lead.lead_score.value()));
                old_totals.push(i64::from(lead.score_total));
                entries.push(id());
                events.push(id());
            }
            if !ids.is_empty() {
                let mut transaction = pool.begin().await.unwrap();
                let set = query("SELECT set_config('crm.tenant_id', $1::text, true)").bind(tenant);
                set.execute(&mut *transaction).await.unwrap();
                let written = query(WRITE)
                    .bind(tenant)
                    .bind(&ids)
                    .bind(&versions)
                    .bind(&scores)
                    .bind(&totals)
                    .bind(&old_scores)
                    .bind(&old_totals)
                    .bind(&entries)
                    .bind(&events)
                    .bind(now)
                    .bind(by)
                    .bind(id())
                    .fetch_one(&mut *transaction)
                    .await;
                transaction.commit().await.unwrap();
                let written: i64 = written.unwrap().get(0);
                assert_eq!(written, i64::try_from(ids.len()).unwrap());
            }
            changed += ids.len();
            if rows.len() < 500 {
                return (checked, changed);
            }
        }
    }

    /// `rescore_all` over PostgreSQL, over two statements for each 500 leads.
    pub(crate) fn pg_rescore(benches: &Benches, options: &Options) -> Medians {
        let count = options.records();
        let (mut desk, by_hand) = benches.block_on(async {
            let ours = benches.office("rescore").await;
            let theirs = benches.office("rescore-by-hand").await;
            let ours = Desk::open(ours.session, count).await;
            Desk::open(theirs.session.clone(), count).await;
            crate::plain::vacuum(&mut benches.owner().await).await;
            (ours, theirs)
        });
        let engine = desk.session.engine().clone();
        let mut round = 0;
        options.measure_rows(
            count,
            || benches.block_on(desk.rescore()),
            || {
                round += 1;
                let now = engine.clock().now();
                let who = (by_hand.tenant(), by_hand.owner.uuid());
                benches.timed(async {
                    let id = || engine.ids().next(now);
                    let extra = Desk::extra(round);
                    let done = rescore_by_hand(benches.pool(), who, extra, now, id).await;
                    assert_eq!(black_box(done).0, count);
                    assert!(2 * done.1 > count);
                })
            },
        )
    }
}
