//! What can not be distributed over machines is found.

use crm_storage_postgres::lint;
use sqlx::Connection as _;

use crate::common::{Database, run};

#[tokio::test]
async fn the_lint_finds_what_can_not_be_distributed() {
    let database = Database::migrated("lint").await;
    let mut connection = database.connection().await;
    for (statement, finding) in [
        (
            "ALTER TABLE crm.contacts DROP CONSTRAINT contacts_pkey CASCADE; \
             ALTER TABLE crm.contacts ADD PRIMARY KEY (id, tenant_id)",
            "1: the unique index crm.contacts_pkey does not lead with the tenant",
        ),
        (
            "CREATE UNIQUE INDEX u ON crm.contacts (email)",
            "1: the unique index crm.u",
        ),
        (
            "CREATE TABLE crm.host (id int PRIMARY KEY)",
            "row-level security of host",
        ),
        (
            "CREATE TABLE crm.host (tenant_id text PRIMARY KEY)",
            "1: host.tenant_id",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid NOT NULL)",
            "1: host has no primary key",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, t uuid REFERENCES crm.tenants (id))",
            "1: the foreign key host_t_fkey of host leaves the tenant",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, c uuid, \
             FOREIGN KEY (tenant_id, c) REFERENCES crm.contacts ON DELETE SET NULL (c))",
            "2: the foreign key host_tenant_id_c_fkey of host changes rows",
        ),
        (
            "CREATE TABLE crm.host (tenant_id uuid PRIMARY KEY, c uuid, \
             FOREIGN KEY (tenant_id, c) REFERENCES crm.contacts DEFERRABLE)",
            "2: the constraint host_tenant_id_c_fkey of host can be deferred",
        ),
        (
            "CREATE TRIGGER t BEFORE UPDATE ON crm.deals FOR EACH ROW \
             EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "2: deals has the trigger t",
        ),
        (
            "CREATE TABLE crm.audit_events_2026_01 PARTITION OF crm.audit_events \
             FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY HASH (tenant_id)",
            "2: the partition audit_events_2026_01 is partitioned itself",
        ),
        (
            "CREATE MATERIALIZED VIEW crm.m AS SELECT 1",
            "2: m is a materialized view",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n serial",
            "2: deals.n counts by itself",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n serial",
            "2: deals_n_seq is a sequence",
        ),
        (
            "ALTER TABLE crm.deals ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY",
            "2: deals.n counts by itself",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN created_at SET DEFAULT now()",
            "3: deals.created_at takes time or chance from the database",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP",
            "3: deals.created_at takes time or chance from the database",
        ),
        (
            "ALTER TABLE crm.deals ALTER COLUMN id SET DEFAULT gen_random_uuid()",
            "3: deals.id takes time or chance from the database",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
            "3: f() takes time or chance from the database",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(1)'",
            "5: f() takes a lock of the session",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS text LANGUAGE sql AS $$SELECT set_config('a.b', 'c', false)$$",
            "7: f() changes the session",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "everybody may call f()",
        ),
        (
            "CREATE FUNCTION crm.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "f() runs with the rights of ",
        ),
        (
            "ALTER TABLE crm.deals NO FORCE ROW LEVEL SECURITY",
            "row-level security of deals",
        ),
        (
            "DROP POLICY tenant_isolation ON crm.users; DROP POLICY search ON crm.users",
            "users has no policy",
        ),
        (
            "GRANT SELECT ON crm.deals TO PUBLIC",
            "everybody has rights on deals",
        ),
        (
            "GRANT SELECT ON crm.audit_events_default TO crm_app",
            "others than the owner have rights on the partition audit_events_default",
        ),
        (
            "GRANT DELETE ON crm.audit_events TO crm_app",
            "crm_app may delete audit_events",
        ),
        (
            "ALTER ROLE crm_app BYPASSRLS",
            "row-level security does not hold for crm_app",
        ),
        (
            "ALTER FUNCTION crm.search OWNER TO CURRENT_USER",
            "search() runs with the rights of ",
        ),
    ] {
        let mut transaction = connection.begin().await.unwrap();
        run(&mut transaction, statement).await;
        let found = lint(&mut transaction, "crm").await.unwrap();
        assert!(
            found.iter().any(|f| f.starts_with(finding)),
            "{statement}: {found:?}"
        );
        transaction.rollback().await.unwrap();
    }
    // What is forbidden may be spoken of.
    let mut transaction = connection.begin().await.unwrap();
    run(
        &mut transaction,
        "CREATE FUNCTION crm.f() RETURNS int LANGUAGE plpgsql AS \
         $$BEGIN -- not now()\n RETURN 1; /* nor random() */ END$$; \
         REVOKE ALL ON FUNCTION crm.f FROM PUBLIC",
    )
    .await;
    assert_eq!(
        lint(&mut transaction, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    transaction.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}
