//! What a program without an engine would send to PostgreSQL: statements written by hand, values
//! bound by hand, rows read into structs of plain fields.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value as Json, json};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, Postgres, Row as _, query};
use uuid::Uuid;

/// A statement with values bound in it.
type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// A struct of plain fields, one for each column but the tenant's.
macro_rules! plain {
    ($columns:ident, $plain:ident { $head:ident: $head_type:ty, $($field:ident: $type:ty,)* }) => {
        /// The columns, as SQL.
        macro_rules! $columns {
            () => { concat!(stringify!($head), $(", ", stringify!($field)),*) };
        }

        #[derive(Clone)]
        pub(crate) struct $plain {
            pub(crate) $head: $head_type,
            $(pub(crate) $field: $type,)*
        }

        impl $plain {
            fn read(row: &PgRow) -> Self {
                let mut at = 0;
                let mut next = || {
                    at += 1;
                    at - 1
                };
                Self { $head: row.get(next()), $($field: row.get(next()),)* }
            }

            fn bind<'q>(&'q self, query: Bound<'q>) -> Bound<'q> {
                query.bind(&self.$head)$(.bind(&self.$field))*
            }

            fn copy(&self, to: &mut Vec<u8>) {
                self.$head.copy(to);
                $(self.$field.copy(to);)*
            }
        }
    };
}

plain!(contact_columns, PlainContact {
    id: Uuid,
    version: i64,
    created_at: DateTime<Utc>,
    created_by: String,
    created_by_id: Option<Uuid>,
    updated_at: DateTime<Utc>,
    updated_by: String,
    updated_by_id: Option<Uuid>,
    archived_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
    first_name: Option<String>,
    last_name: Option<String>,
    account_id: Option<Uuid>,
    email: Option<String>,
    phone: Option<String>,
    phone_e164: Option<String>,
    mobile: Option<String>,
    mobile_e164: Option<String>,
    company: Option<String>,
    job_title: Option<String>,
    department: Option<String>,
    mailing_street: Option<String>,
    mailing_city: Option<String>,
    mailing_region: Option<String>,
    mailing_postal_code: Option<String>,
    mailing_country: Option<String>,
    social_profiles: Json,
    lead_source: Option<String>,
    preferred_contact_method: String,
    do_not_call: bool,
    do_not_email: bool,
    email_opt_out: bool,
    timezone: String,
    language: String,
    status: String,
    description: Option<String>,
    lead_score: i64,
    deal_count: i64,
    total_deal_value: Json,
    won_deal_count: i64,
    won_deal_value: Json,
    last_contacted_at: Option<DateTime<Utc>>,
    last_activity_at: Option<DateTime<Utc>>,
    next_activity_at: Option<DateTime<Utc>>,
    owner_id: Option<Uuid>,
    custom_fields: Json,
    tags: Vec<String>,
});

impl PlainContact {
    /// The contact that `Office::contact` makes.
    pub(crate) fn example(number: usize, owner: Uuid) -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            id: Uuid::nil(),
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            created_by: "user".into(),
            created_by_id: Some(owner),
            updated_at: DateTime::UNIX_EPOCH,
            updated_by: "user".into(),
            updated_by_id: Some(owner),
            archived_at: None,
            deleted_at: None,
            first_name: text("Maria"),
            last_name: text("Lopez"),
            account_id: None,
            email: Some(format!("maria.lopez.{number}@globex.example")),
            phone: text("+34 912 34 56 78"),
            phone_e164: text("+34912345678"),
            mobile: None,
            mobile_e164: None,
            company: text("Globex Corporation"),
            job_title: text("Head of Procurement"),
            department: text("Operations"),
            mailing_street: text("Calle Mayor 17"),
            mailing_city: text("Madrid"),
            mailing_region: None,
            mailing_postal_code: text("28013"),
            mailing_country: text("ES"),
            social_profiles: json!({}),
            lead_source: text("trade fair"),
            preferred_contact_method: "email".into(),
            do_not_call: false,
            do_not_email: false,
            email_opt_out: false,
            timezone: "UTC".into(),
            language: "en-US".into(),
            status: "active".into(),
            description: text("Met at the fair; wants an offer for three sites by spring."),
            lead_score: 0,
            deal_count: 0,
            total_deal_value: json!({}),
            won_deal_count: 0,
            won_deal_value: json!({}),
            last_contacted_at: None,
            last_activity_at: None,
            next_activity_at: None,
            owner_id: Some(owner),
            custom_fields: json!({"region": "south", "segment": "mid-market"}),
            tags: vec!["key-account".into(), "fair-2026".into()],
        }
    }

    /// Gives it an id and a time.
    pub(crate) fn stamp(&mut self, id: Uuid, at: DateTime<Utc>) {
        self.id = id;
        self.created_at = at;
        self.updated_at = at;
    }

    fn folded_email(&self) -> Option<String> {
        self.email.as_ref().map(|email| email.to_lowercase())
    }
}

// ---- Writing --------------------------------------------------------------------------------

/// The setting that row-level security asks for.
macro_rules! scope {
    () => {
        "WITH scope AS MATERIALIZED \
         (SELECT set_config('crm.tenant_id', $1::text, true) IS NOT NULL AS is_set)"
    };
}

macro_rules! contact_values {
    () => {
        "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
         $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, \
         $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49"
    };
}

macro_rules! event_columns {
    () => {
        "tenant_id, id, version, created_at, created_by, created_by_id, updated_at, updated_by, \
         updated_by_id, commit_id, event, category, object, record_id, record_version, changes"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO crm.contacts (tenant_id, ",
    contact_columns!(),
    ", email_folded) VALUES (",
    contact_values!(),
    ")"
);

/// One row and nothing else, through a role that row-level security does not bind.
pub(crate) async fn insert(owner: &PgPool, tenant: Uuid, contact: &PlainContact) {
    let statement = contact.bind(query(INSERT).bind(tenant));
    let done = statement.bind(contact.folded_email()).execute(owner).await;
    assert_eq!(done.unwrap().rows_affected(), 1);
}

const CREATE: &str = concat!(
    scope!(),
    ", contact AS (INSERT INTO crm.contacts (tenant_id, ",
    contact_columns!(),
    ", email_folded) SELECT ",
    contact_values!(),
    " FROM scope WHERE scope.is_set) INSERT INTO crm.audit_events (",
    event_columns!(),
    ") SELECT $1, $50, 1, $4, $5, $6, $4, $5, $6, $51, \
     'create', 'data_change', 'contact', $2, 1, $52 FROM scope WHERE scope.is_set",
);

/// The contact and its event.
pub(crate) async fn create(
    pool: &PgPool,
    tenant: Uuid,
    contact: &PlainContact,
    event: Uuid,
    commit: Uuid,
) {
    let statement = contact
        .bind(query(CREATE).bind(tenant))
        .bind(contact.folded_email())
        .bind(event)
        .bind(commit)
        .bind(sqlx::types::Json(Created(contact)));
    let done = statement.execute(pool).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

const CREATE_EMPLOYEE: &str = concat!(
    scope!(),
    ", contact AS (INSERT INTO crm.contacts (tenant_id, ",
    contact_columns!(),
    ", email_folded) SELECT ",
    contact_values!(),
    " FROM scope WHERE scope.is_set), affiliation AS (INSERT INTO crm.contact_affiliations \
     (tenant_id, id, version, created_at, created_by, created_by_id, updated_at, updated_by, \
     updated_by_id, contact_id, account_id, is_primary) SELECT $1, $53, 1, $4, $5, $6, $4, $5, \
     $6, $2, $14, true FROM scope WHERE scope.is_set) INSERT INTO crm.audit_events (",
    event_columns!(),
    ") SELECT $1, e.id, 1, $4, $5, $6, $4, $5, $6, $51, 'create', 'data_change', e.object, \
     e.record_id, 1, e.changes FROM scope CROSS JOIN (VALUES ($50, 'contact', $2, $52), \
     ($54, 'contact_affiliation', $53, $55)) AS e (id, object, record_id, changes) \
     WHERE scope.is_set",
);

/// The contact, its affiliation with its account, and an event of each.
pub(crate) async fn create_employee(
    pool: &PgPool,
    tenant: Uuid,
    contact: &PlainContact,
    [event, commit, affiliation, its_event]: [Uuid; 4],
) {
    let statement = contact
        .bind(query(CREATE_EMPLOYEE).bind(tenant))
        .bind(contact.folded_email())
        .bind(event)
        .bind(commit)
        .bind(sqlx::types::Json(Created(contact)))
        .bind(affiliation)
        .bind(its_event)
        .bind(json!({
            "contact_id": {"new": contact.id},
            "account_id": {"new": contact.account_id},
            "is_primary": {"new": true},
        }));
    let done = statement.execute(pool).await.unwrap();
    assert_eq!(done.rows_affected(), 2);
}

/// What a new contact is filled with, as its event tells it: `{"first_name": {"new": ..}, ..}`.
struct Created<'a>(&'a PlainContact);

#[derive(serde::Serialize)]
struct New<T> {
    new: T,
}

impl Serialize for Created<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        macro_rules! filled {
            ($($field:ident)*) => {$(
                if let Some(new) = &self.0.$field {
                    map.serialize_entry(stringify!($field), &New { new })?;
                }
            )*};
        }
        macro_rules! always {
            ($($field:ident)*) => {$(
                map.serialize_entry(stringify!($field), &New { new: &self.0.$field })?;
            )*};
        }
        filled! {
            first_name last_name account_id email phone phone_e164 mobile mobile_e164 company
            job_title department mailing_street mailing_city mailing_region mailing_postal_code
            mailing_country lead_source description owner_id
        }
        always! {
            preferred_contact_method do_not_call do_not_email email_opt_out timezone language
            status lead_score deal_count won_deal_count custom_fields tags
        }
        map.end()
    }
}

const UPDATE: &str = concat!(
    scope!(),
    ", contact AS (UPDATE crm.contacts AS t SET version = $3 + 1, updated_at = $4, \
     updated_by = 'user', updated_by_id = $5, job_title = $6, department = $7, do_not_call = $8 \
     WHERE (SELECT is_set FROM scope) AND t.tenant_id = $1 AND t.id = $2 AND t.version = $3 \
     RETURNING 1) INSERT INTO crm.audit_events (",
    event_columns!(),
    ") SELECT $1, $9, 1, $4, 'user', $5, $4, 'user', $5, $10, \
     'update', 'data_change', 'contact', $2, $3 + 1, $11 FROM contact",
);

/// A change of three fields.
pub(crate) struct Edit {
    pub(crate) at: DateTime<Utc>,
    pub(crate) by: Uuid,
    pub(crate) job_title: Option<String>,
    pub(crate) department: Option<String>,
    pub(crate) do_not_call: bool,
}

/// The changed contact and its event. The contact is at the version that the caller knows.
pub(crate) async fn update(
    pool: &PgPool,
    tenant: Uuid,
    contact: &mut PlainContact,
    edit: Edit,
    event: Uuid,
    commit: Uuid,
) {
    let changes = json!({
        "job_title": {"old": &contact.job_title, "new": &edit.job_title},
        "department": {"old": &contact.department, "new": &edit.department},
        "do_not_call": {"old": contact.do_not_call, "new": edit.do_not_call},
    });
    let done = query(UPDATE)
        .bind(tenant)
        .bind(contact.id)
        .bind(contact.version)
        .bind(edit.at)
        .bind(edit.by)
        .bind(&edit.job_title)
        .bind(&edit.department)
        .bind(edit.do_not_call)
        .bind(event)
        .bind(commit)
        .bind(changes)
        .execute(pool)
        .await;
    assert_eq!(done.unwrap().rows_affected(), 1);
    contact.version += 1;
    contact.updated_at = edit.at;
    contact.job_title = edit.job_title;
    contact.department = edit.department;
    contact.do_not_call = edit.do_not_call;
}

// ---- Reading --------------------------------------------------------------------------------

macro_rules! select {
    ($condition:literal) => {
        concat!(
            scope!(),
            " SELECT r.* FROM scope CROSS JOIN LATERAL (SELECT ",
            contact_columns!(),
            " FROM crm.contacts WHERE scope.is_set AND tenant_id = $1 AND ",
            $condition,
            ") AS r"
        )
    };
}

pub(crate) async fn get(pool: &PgPool, tenant: Uuid, id: Uuid) -> PlainContact {
    let row = query(select!("id = $2 AND deleted_at IS NULL OFFSET 0"))
        .bind(tenant)
        .bind(id)
        .fetch_one(pool)
        .await;
    PlainContact::read(&row.unwrap())
}

/// The records that have one of these keys.
pub(crate) async fn holders(pool: &PgPool, tenant: Uuid, keys: &[Uuid]) -> Vec<Uuid> {
    let found = sqlx::query_scalar(concat!(
        scope!(),
        " SELECT r.record_id FROM scope CROSS JOIN LATERAL (SELECT record_id \
          FROM crm.duplicate_keys WHERE scope.is_set AND tenant_id = $1 AND key = ANY($2) \
          ORDER BY key, record_id LIMIT 5000) AS r"
    ))
    .bind(tenant)
    .bind(keys)
    .fetch_all(pool)
    .await;
    found.unwrap()
}

pub(crate) async fn newest(pool: &PgPool, tenant: Uuid, owner: Uuid) -> Vec<PlainContact> {
    let rows = query(select!(
        "owner_id = $2 AND deleted_at IS NULL AND archived_at IS NULL \
         ORDER BY created_at DESC, id DESC LIMIT 50"
    ))
    .bind(tenant)
    .bind(owner)
    .fetch_all(pool)
    .await;
    rows.unwrap().iter().map(PlainContact::read).collect()
}

/// The deals of a stage.
#[derive(Debug, PartialEq)]
pub(crate) struct StageSum {
    pub(crate) stage: Uuid,
    pub(crate) count: i64,
    pub(crate) amount: Decimal,
    pub(crate) weighted: Decimal,
}

pub(crate) async fn deals_by_stage(pool: &PgPool, tenant: Uuid, currency: &str) -> Vec<StageSum> {
    let rows = query(concat!(
        scope!(),
        " SELECT r.* FROM scope CROSS JOIN LATERAL (SELECT stage_id, count(*), sum(amount), \
         sum(amount * win_probability) * 0.01 FROM crm.deals WHERE scope.is_set \
         AND tenant_id = $1 AND currency = $2 AND deleted_at IS NULL AND archived_at IS NULL \
         GROUP BY stage_id ORDER BY stage_id OFFSET 0) AS r"
    ))
    .bind(tenant)
    .bind(currency)
    .fetch_all(pool)
    .await;
    rows.unwrap()
        .iter()
        .map(|row| StageSum {
            stage: row.get(0),
            count: row.get(1),
            amount: row.get(2),
            weighted: row.get(3),
        })
        .collect()
}

/// Stage, owner and month; the currency; how many; what they are worth, and weighted.
pub(crate) type PipelineSum = (
    (Uuid, Option<Uuid>, NaiveDate),
    String,
    i64,
    (Decimal, Decimal),
);

pub(crate) async fn stage_summary(pool: &PgPool, tenant: Uuid, pipeline: Uuid) -> Vec<PipelineSum> {
    let rows = query(concat!(
        scope!(),
        " SELECT r.* FROM scope CROSS JOIN LATERAL (SELECT stage_id, owner_id, \
         date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month, currency, count(*), \
         sum(amount), sum(amount * win_probability) * 0.01 FROM crm.deals WHERE scope.is_set \
         AND tenant_id = $1 AND pipeline_id = $2 AND deleted_at IS NULL AND archived_at IS NULL \
         GROUP BY stage_id, owner_id, month, currency \
         ORDER BY stage_id, owner_id, month, currency OFFSET 0) AS r"
    ))
    .bind(tenant)
    .bind(pipeline)
    .fetch_all(pool)
    .await;
    let sum = |row: &PgRow, at: usize| row.get::<Decimal, _>(at).normalize();
    rows.unwrap()
        .iter()
        .map(|row| {
            let group = (row.get(0), row.get(1), row.get(2));
            (group, row.get(3), row.get(4), (sum(row, 5), sum(row, 6)))
        })
        .collect()
}

// ---- COPY -----------------------------------------------------------------------------------

const COPY_CONTACTS: &str = concat!(
    "COPY crm.contacts (tenant_id, ",
    contact_columns!(),
    ", email_folded) FROM STDIN (FORMAT binary)"
);
const COPY_EVENTS: &str = concat!(
    "COPY crm.audit_events (",
    event_columns!(),
    ") FROM STDIN (FORMAT binary)"
);

/// How much is sent at once.
const PIECE: usize = 1 << 20;

/// Contacts and their events in one transaction, through a role that row-level security does not
/// bind, as it does not allow COPY to others.
pub(crate) async fn copy(
    owner: &mut PgConnection,
    tenant: Uuid,
    contacts: &[PlainContact],
    commit: Uuid,
    mut id: impl FnMut() -> Uuid,
) {
    let begin = query("BEGIN").execute(&mut *owner).await;
    begin.unwrap();
    let mut copy = owner.copy_in_raw(COPY_CONTACTS).await.unwrap();
    let mut piece = header();
    for contact in contacts {
        piece.extend(49_i16.to_be_bytes());
        tenant.copy(&mut piece);
        contact.copy(&mut piece);
        contact.folded_email().copy(&mut piece);
        if piece.len() >= PIECE {
            copy.send(piece.as_slice()).await.unwrap();
            piece.clear();
        }
    }
    piece.extend((-1_i16).to_be_bytes());
    copy.send(piece.as_slice()).await.unwrap();
    copy.finish().await.unwrap();
    let mut copy = owner.copy_in_raw(COPY_EVENTS).await.unwrap();
    let mut piece = header();
    for contact in contacts {
        piece.extend(16_i16.to_be_bytes());
        tenant.copy(&mut piece);
        id().copy(&mut piece);
        1_i64.copy(&mut piece);
        for _ in 0..2 {
            contact.created_at.copy(&mut piece);
            contact.created_by.copy(&mut piece);
            contact.created_by_id.copy(&mut piece);
        }
        commit.copy(&mut piece);
        "create".copy(&mut piece);
        "data_change".copy(&mut piece);
        "contact".copy(&mut piece);
        contact.id.copy(&mut piece);
        1_i64.copy(&mut piece);
        copy_json(&mut piece, &Created(contact));
        if piece.len() >= PIECE {
            copy.send(piece.as_slice()).await.unwrap();
            piece.clear();
        }
    }
    piece.extend((-1_i16).to_be_bytes());
    copy.send(piece.as_slice()).await.unwrap();
    copy.finish().await.unwrap();
    let commit = query("COMMIT").execute(&mut *owner).await;
    commit.unwrap();
}

fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(PIECE + PIECE / 8);
    header.extend(b"PGCOPY\n\xFF\r\n\0");
    header.extend([0; 8]);
    header
}

/// A value in the binary form of COPY.
trait Copied {
    fn copy(&self, to: &mut Vec<u8>);
}

fn copy_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
    to.extend(bytes);
}

/// The length is known afterwards.
fn copy_json(to: &mut Vec<u8>, value: &impl Serialize) {
    let start = to.len();
    to.extend([0, 0, 0, 0, 1]);
    serde_json::to_writer(&mut *to, value).unwrap();
    let length = i32::try_from(to.len() - start - 4).unwrap();
    to[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

impl Copied for Uuid {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_bytes(to, self.as_bytes());
    }
}

impl Copied for i64 {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_bytes(to, &self.to_be_bytes());
    }
}

impl Copied for bool {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_bytes(to, &[u8::from(*self)]);
    }
}

impl Copied for str {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_bytes(to, self.as_bytes());
    }
}

impl Copied for String {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_bytes(to, self.as_bytes());
    }
}

impl Copied for DateTime<Utc> {
    fn copy(&self, to: &mut Vec<u8>) {
        // The server counts from the year 2000.
        let micros = self.timestamp_micros() - 946_684_800_000_000;
        copy_bytes(to, &micros.to_be_bytes());
    }
}

impl Copied for Json {
    fn copy(&self, to: &mut Vec<u8>) {
        copy_json(to, self);
    }
}

impl Copied for Vec<String> {
    fn copy(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend([0; 4]);
        // One dimension of texts without nulls, counted from 1.
        for number in [1, 0, 25, i32::try_from(self.len()).unwrap(), 1] {
            to.extend(number.to_be_bytes());
        }
        for entry in self {
            entry.copy(to);
        }
        let length = i32::try_from(to.len() - start - 4).unwrap();
        to[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

impl<T: Copied> Copied for Option<T> {
    fn copy(&self, to: &mut Vec<u8>) {
        match self {
            Some(value) => value.copy(to),
            None => to.extend((-1_i32).to_be_bytes()),
        }
    }
}

// ---- Rows that are only there ---------------------------------------------------------------

/// More contacts like those that a tenant has one of: each with an e-mail address and a time of
/// its own, one second after the other up to now.
pub(crate) async fn multiply_contact(owner: &mut PgConnection, tenant: Uuid, count: i64) {
    let done = query(
        "INSERT INTO crm.contacts (tenant_id, id, version, created_at, created_by, created_by_id, \
         updated_at, updated_by, updated_by_id, first_name, last_name, account_id, email, phone, \
         phone_e164, company, job_title, department, mailing_street, mailing_city, \
         mailing_postal_code, mailing_country, social_profiles, lead_source, \
         preferred_contact_method, do_not_call, do_not_email, email_opt_out, timezone, language, \
         status, description, lead_score, deal_count, total_deal_value, won_deal_count, \
         won_deal_value, owner_id, custom_fields, tags, email_folded) \
         SELECT t.tenant_id, n.id, 1, n.at, t.created_by, t.created_by_id, n.at, t.updated_by, \
         t.updated_by_id, t.first_name, t.last_name, t.account_id, n.email, t.phone, \
         t.phone_e164, t.company, t.job_title, t.department, t.mailing_street, t.mailing_city, \
         t.mailing_postal_code, t.mailing_country, t.social_profiles, t.lead_source, \
         t.preferred_contact_method, t.do_not_call, t.do_not_email, t.email_opt_out, t.timezone, \
         t.language, t.status, t.description, t.lead_score, t.deal_count, t.total_deal_value, \
         t.won_deal_count, t.won_deal_value, t.owner_id, t.custom_fields, t.tags, n.email \
         FROM (SELECT * FROM crm.contacts WHERE tenant_id = $1 LIMIT 1) AS t CROSS JOIN LATERAL ( \
           SELECT at, 'contact.' || n || '@seed.example' AS email, \
           (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' \
            || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id \
           FROM (SELECT n, date_trunc('second', statement_timestamp()) \
                 - ($2 - n) * interval '1 second' AS at FROM generate_series(1, $2) AS n) AS n \
         ) AS n",
    )
    .bind(tenant)
    .bind(count)
    .execute(owner)
    .await;
    assert_eq!(done.unwrap().rows_affected(), count.unsigned_abs());
}

/// More deals like the one that a tenant has, in its stages, with amounts from 100 to 10,000.
pub(crate) async fn multiply_deal(
    owner: &mut PgConnection,
    tenant: Uuid,
    stages: &[Uuid],
    count: i64,
) {
    let done = query(
        "INSERT INTO crm.deals (tenant_id, id, version, created_at, created_by, created_by_id, \
         updated_at, updated_by, updated_by_id, name, pipeline_id, stage_id, amount, currency, \
         status, win_probability, deal_type, owner_id, priority, stage_entered_at, custom_fields, \
         tags, counting_category) SELECT t.tenant_id, n.id, 1, n.at, t.created_by, t.created_by_id, n.at, \
         t.updated_by, t.updated_by_id, t.name, t.pipeline_id, \
         ($3::uuid[])[1 + n % cardinality($3::uuid[])], 100 + n % 9901, \
         CASE WHEN n % 5 = 0 THEN 'USD' ELSE 'EUR' END, t.status, 10 + n % 80, t.deal_type, \
         t.owner_id, t.priority, n.at, t.custom_fields, t.tags, t.counting_category \
         FROM (SELECT * FROM crm.deals WHERE tenant_id = $1 LIMIT 1) AS t CROSS JOIN LATERAL ( \
           SELECT n, at, \
           (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' \
            || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id \
           FROM (SELECT n, date_trunc('second', statement_timestamp()) \
                 - ($2 - n) * interval '1 second' AS at FROM generate_series(1, $2) AS n) AS n \
         ) AS n",
    )
    .bind(tenant)
    .bind(count)
    .bind(stages)
    .execute(owner)
    .await;
    assert_eq!(done.unwrap().rows_affected(), count.unsigned_abs());
}

/// Brings statistics and visibility up to date, as the server does by itself in time.
pub(crate) async fn vacuum(owner: &mut PgConnection) {
    // All tables: those of derived rows too.
    let done = query("VACUUM ANALYZE").execute(&mut *owner).await;
    done.unwrap();
}
