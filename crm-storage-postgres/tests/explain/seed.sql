CREATE FUNCTION pg_temp.pick(n bigint, salt bigint, count bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE AS 'SELECT (hashint8extended(n, salt) & 1073741823) % count';
-- Rows of several tenants. A number tells all of a row: what is picked of it with one salt has
-- nothing to do with what is picked with another.

-- Five of eight rows are one tenant's, two tenants have an eighth each, and twenty share the last.
CREATE FUNCTION pg_temp.tenant(n bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS $$
        SELECT lpad(CASE n % 8 WHEN 5 THEN 1 WHEN 6 THEN 2 WHEN 7 THEN 3 + n / 8 % 20 ELSE 0 END::text,
            32, '0')::uuid $$;
CREATE FUNCTION pg_temp.key(kind text, n bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS $$
        SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-0000000000' || kind)::uuid $$;
-- Of `count` rows of a kind, one of the tenant of row `n`.
CREATE FUNCTION pg_temp.other(kind text, n bigint, salt bigint, count bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS
        $$ SELECT pg_temp.key(kind, n % 160 + 160 * pg_temp.pick(n, salt, count / 160)) $$;
-- The first user of each tenant owns two thirds of everything, the others share the rest.
CREATE FUNCTION pg_temp.owner(n bigint, salt bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE WHEN pg_temp.pick(n, salt, 100) >= 70 THEN pg_temp.other('02', n, salt + 1, 320)
            ELSE pg_temp.key('02', CASE WHEN n % 8 < 5 THEN 0 WHEN n % 8 < 7 THEN n % 8 ELSE n % 160 END) END $$;
CREATE FUNCTION pg_temp.at(n bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2025-01-01Z' + n * interval '200 seconds' $$;
CREATE FUNCTION pg_temp.word(n bigint, salt bigint, count bigint) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$
        SELECT initcap(translate(to_hex(100 + pg_temp.pick(n, salt, count) * 37), '0123456789', 'ghijklmnop')) $$;

INSERT INTO crm.tenants (id, version, created_at, created_by, updated_at, updated_by, name, subdomain,
    display_name, timezone, currency, language, brand_colors, settings, features, limits,
    subscription_plan, subscription_status, is_active, subdomain_folded)
SELECT lpad(n::text, 32, '0')::uuid, 1, now(), 'system', now(), 'system', 'T' || n, 't' || n,
    'T' || n, 'UTC', 'EUR', 'en', '{}', '{}', '{}', '{}', 'basic', 'active', true, 't' || n
FROM generate_series(0, 22) AS n;

INSERT INTO crm.users (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    email, email_folded, timezone, language, locale, date_format, time_format, currency, preferences,
    custom_fields, status, must_change_password, failed_login_attempts)
SELECT pg_temp.tenant(n), pg_temp.key('02', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    'u' || n || '@t.example', 'u' || n || '@t.example', 'UTC', 'en', 'en', 'iso', '24h', 'EUR', '{}',
    '{}', 'active', false, 0
FROM generate_series(0, 319) AS n;

ANALYZE;
INSERT INTO crm.teams (tenant_id, id, version, created_at, created_by, updated_at, updated_by, name, team_type, is_active)
SELECT pg_temp.tenant(n), pg_temp.key('07', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    'Team ' || n, 'functional', true
FROM generate_series(0, 1599) AS n;

INSERT INTO crm.campaigns (tenant_id, id, version, created_at, created_by, updated_at, updated_by, name,
    campaign_type, status, currency, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('0a', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    'Campaign ' || n, 'email', 'active', 'EUR', '{}', '{}'
FROM generate_series(0, 15999) AS n;

INSERT INTO crm.pipelines (tenant_id, id, version, created_at, created_by, updated_at, updated_by, name,
    pipeline_type, is_default, is_active, currency, probability_calculation, stage_order_enforced,
    custom_fields)
SELECT pg_temp.tenant(n), pg_temp.key('03', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    'Pipeline ' || n, 'sales', false, true, 'EUR', 'manual', false, '{}'
FROM generate_series(0, 159) AS n;

-- Stage n is of pipeline n % 160.
INSERT INTO crm.pipeline_stages (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    pipeline_id, name, stage_order, default_probability, stage_type, required_fields,
    allowed_next_stages, color, is_active)
SELECT pg_temp.tenant(n), pg_temp.key('04', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    pg_temp.key('03', n % 160), 'Stage ' || n / 160, n / 160 + 1, 10, 'open', '{}', '[]', '#000000', true
FROM generate_series(0, 959) AS n;

INSERT INTO crm.accounts (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deleted_at, name, account_type, industry, parent_account_id, email, email_folded, social_profiles,
    territory_id, territory_is_manual, owner_id, account_manager_id, status, priority, health_score, deal_count,
    total_deal_value, won_deal_count, won_deal_value, last_activity_at, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('05', n), 1, pg_temp.at(n), 'system', pg_temp.at(n + 500), 'system',
    CASE WHEN pg_temp.pick(n, 1, 30) = 0 THEN pg_temp.at(n + 400) END,
    pg_temp.word(n, 2, 4000) || ' Ltd',
    CASE WHEN pg_temp.pick(n, 3, 100) = 0 THEN 'competitor' ELSE 'customer' END,
    'industry ' || pg_temp.pick(n, 4, 40),
    CASE WHEN pg_temp.pick(n, 5, 10) = 0 THEN pg_temp.key('05', n % 160 + 160 * pg_temp.pick(n, 6, 1 + n / 160 / 4)) END,
    'Office' || n || '@Account.example', 'office' || n || '@account.example', '{}',
    pg_temp.other('06', n, 7, 16000), false, pg_temp.owner(n, 8), pg_temp.other('02', n, 9, 320),
    CASE WHEN pg_temp.pick(n, 10, 50) = 0 THEN 'inactive' ELSE 'active' END, 'medium',
    pg_temp.pick(n, 11, 101), 0, '{}', 0, '{}',
    CASE WHEN pg_temp.pick(n, 12, 3) > 0 THEN pg_temp.at(n + 900) END, '{}',
    ARRAY['tag' || pg_temp.pick(n, 13, 5), 'rare' || pg_temp.pick(n, 14, 1000)]
FROM generate_series(0, 11999) AS n;

-- One in eight is of an import, all of one moment.
ANALYZE;
INSERT INTO crm.contacts (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deleted_at, first_name, last_name, account_id, email, email_folded, phone, phone_e164, mobile,
    mobile_e164, company,
    social_profiles, lead_source, preferred_contact_method, do_not_call, do_not_email, email_opt_out,
    timezone, language, status, lead_score, deal_count, total_deal_value, won_deal_count,
    won_deal_value, last_activity_at, owner_id, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('01', n), 1,
    CASE WHEN n BETWEEN 60000 AND 75999 THEN pg_temp.at(60000) ELSE pg_temp.at(n) END, 'system',
    pg_temp.at(n + 500), 'system',
    CASE WHEN pg_temp.pick(n, 1, 30) = 0 THEN pg_temp.at(n + 400) END,
    pg_temp.word(n, 2, 500), CASE WHEN pg_temp.pick(n, 3, 20) > 0 THEN pg_temp.word(n, 4, 2000) END,
    CASE WHEN pg_temp.pick(n, 5, 4) > 0 THEN pg_temp.other('05', n, 6, 12000) END,
    'P' || n || '@Mail.example', 'p' || n || '@mail.example',
    CASE WHEN pg_temp.pick(n, 7, 3) = 0 THEN '+4930' || 1000000 + n END,
    CASE WHEN pg_temp.pick(n, 7, 3) = 0 THEN '+4930' || 1000000 + n END,
    CASE WHEN pg_temp.pick(n, 8, 3) = 0 THEN '+49151' || 15000000 + n END,
    CASE WHEN pg_temp.pick(n, 8, 3) = 0 THEN '+49151' || 15000000 + n END,
    'Company ' || pg_temp.pick(n, 9, 3000), '{}',
    CASE WHEN pg_temp.pick(n, 10, 200) = 0 THEN 'fair' ELSE 'web' END, 'email', false, false, false,
    'UTC', 'en', CASE WHEN pg_temp.pick(n, 11, 1000) = 0 THEN 'deceased' WHEN pg_temp.pick(n, 11, 20) = 1 THEN 'inactive' ELSE 'active' END,
    pg_temp.pick(n, 12, 101), 0, '{}', 0, '{}',
    CASE WHEN pg_temp.pick(n, 13, 3) > 0 THEN pg_temp.at(n + 900) END,
    pg_temp.owner(n, 14), '{}',
    ARRAY['tag' || pg_temp.pick(n, 15, 5), 'rare' || pg_temp.pick(n, 16, 1000)]
FROM generate_series(0, 129999) AS n;

ANALYZE;
INSERT INTO crm.deals (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deleted_at, name, pipeline_id, stage_id, stage_entered_at, amount, amount_rounded, currency, status, win_probability,
    counting_category, expected_close_date, actual_close_date, lead_source, account_id, contact_id, owner_id, team_id,
    priority, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('08', n), 1, pg_temp.at(n), 'system', pg_temp.at(n + 500), 'system',
    CASE WHEN pg_temp.pick(n, 1, 30) = 0 THEN pg_temp.at(n + 400) END, 'Deal ' || n,
    pg_temp.key('03', n % 160), pg_temp.key('04', n % 160 + 160 * pg_temp.pick(n, 2, 6)), pg_temp.at(n),
    CASE WHEN pg_temp.pick(n, 3, 10) > 0 THEN pg_temp.pick(n, 4, 1000000) END,
    CASE WHEN pg_temp.pick(n, 3, 10) > 0 THEN pg_temp.pick(n, 4, 1000000) END, 'EUR',
    CASE pg_temp.pick(n, 5, 10) WHEN 0 THEN 'open' WHEN 1 THEN 'open' WHEN 2 THEN 'lost' ELSE 'won' END, 20,
    CASE pg_temp.pick(n, 5, 10) WHEN 0 THEN 'pipeline' WHEN 1 THEN 'commit' WHEN 2 THEN 'omitted' ELSE 'closed' END,
    CASE WHEN pg_temp.pick(n, 6, 5) > 1 THEN date '2025-01-01' + pg_temp.pick(n, 7, 700)::integer END,
    CASE WHEN pg_temp.pick(n, 5, 10) > 1 THEN date '2025-01-01' + pg_temp.pick(n, 8, 500)::integer END,
    CASE WHEN pg_temp.pick(n, 9, 200) = 0 THEN 'fair' ELSE 'web' END,
    pg_temp.other('05', n, 10, 12000), pg_temp.other('01', n, 11, 129920), pg_temp.owner(n, 12),
    pg_temp.other('07', n, 13, 1600), 'medium', '{}',
    ARRAY['tag' || pg_temp.pick(n, 15, 5), 'rare' || pg_temp.pick(n, 16, 1000)]
FROM generate_series(0, 89999) AS n;

-- Three states of each deal, a month each; the last one is open and has the deal's id.
INSERT INTO crm.deal_states (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deal_id, deal_created_at, valid_from, valid_until, is_counted, pipeline_id, stage_id, status, amount,
    currency, win_probability, counting_category, owner_id)
SELECT pg_temp.tenant(n), CASE k WHEN 2 THEN pg_temp.key('08', n) ELSE pg_temp.key('12', n + 90000 * k) END, 1,
    pg_temp.at(n), 'system', pg_temp.at(n), 'system', pg_temp.key('08', n), pg_temp.at(n),
    pg_temp.at(n) + k * interval '30 days', CASE WHEN k < 2 THEN pg_temp.at(n) + (k + 1) * interval '30 days' END,
    true, pg_temp.key('03', n % 160), pg_temp.key('04', n % 160 + 160 * pg_temp.pick(n, 2 + k, 6)), 'open',
    pg_temp.pick(n, 4, 1000000), 'EUR', 20, 'pipeline', pg_temp.owner(n, 12)
FROM generate_series(0, 89999) AS n, generate_series(0, 2) AS k;

ANALYZE;
INSERT INTO crm.leads (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deleted_at, first_name, last_name, company, email, email_folded, phone, phone_e164, industry, lead_source,
    campaign_id, status, qualification_status, interest_level, lead_score, score_total, score_adjustment, decision_maker, pain_points,
    interests, owner_id, converted_at, converted_contact_id, converted_account_id, converted_deal_id,
    last_activity_at, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('09', n), 1, pg_temp.at(n), 'system', pg_temp.at(n + 500), 'system',
    CASE WHEN pg_temp.pick(n, 1, 30) = 0 THEN pg_temp.at(n + 400) END,
    pg_temp.word(n, 2, 500), pg_temp.word(n, 4, 2000), 'Company ' || pg_temp.pick(n, 5, 3000),
    'L' || n || '@Mail.example', 'l' || n || '@mail.example',
    CASE WHEN pg_temp.pick(n, 7, 3) = 0 THEN '+4930' || 1000000 + n END,
    CASE WHEN pg_temp.pick(n, 7, 3) = 0 THEN '+4930' || 1000000 + n END, 'industry ' || pg_temp.pick(n, 8, 40),
    CASE WHEN pg_temp.pick(n, 9, 200) = 0 THEN 'fair' ELSE 'web' END,
    pg_temp.other('0a', n, 10, 16000),
    CASE WHEN is_converted THEN 'converted' WHEN pg_temp.pick(n, 11, 50) = 0 THEN 'qualified'
        WHEN pg_temp.pick(n, 11, 2) = 0 THEN 'lost' ELSE 'new' END,
    CASE WHEN pg_temp.pick(n, 12, 50) = 0 THEN 'sales_accepted' ELSE 'unqualified' END, 'unknown',
    CASE WHEN is_converted THEN 60 + pg_temp.pick(n, 13, 41) ELSE pg_temp.pick(n, 13, 61) END, 0, 0, false, '{}', ARRAY['int' || pg_temp.pick(n, 17, 300)],
    pg_temp.owner(n, 18), CASE WHEN is_converted THEN pg_temp.at(n + 300) END,
    CASE WHEN is_converted THEN pg_temp.other('01', n, 19, 129920) END,
    CASE WHEN is_converted THEN pg_temp.other('05', n, 20, 12000) END,
    CASE WHEN is_converted THEN pg_temp.other('08', n, 21, 89920) END,
    CASE WHEN pg_temp.pick(n, 22, 3) > 0 THEN pg_temp.at(n + 900) END, '{}',
    ARRAY['tag' || pg_temp.pick(n, 15, 5), 'rare' || pg_temp.pick(n, 16, 1000)]
FROM generate_series(0, 31999) AS n, LATERAL (SELECT pg_temp.pick(n, 99, 3) = 0 AS is_converted) AS l;

ANALYZE;
INSERT INTO crm.activities (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deleted_at, activity_type, subject, account_id, contact_id, deal_id, lead_id, owner_id, assigned_to,
    status, priority, scheduled_at, due_date, is_all_day, follow_up_required, is_individual, custom_fields, tags)
SELECT pg_temp.tenant(n), pg_temp.key('0b', n), 1, pg_temp.at(n), 'system', pg_temp.at(n + 500), 'system',
    CASE WHEN pg_temp.pick(n, 1, 30) = 0 THEN pg_temp.at(n + 400) END,
    CASE pg_temp.pick(n, 2, 100) WHEN 0 THEN 'demo' WHEN 1 THEN 'meeting' ELSE 'call' END, 'Call ' || n,
    CASE WHEN pg_temp.pick(n, 3, 2) = 0 THEN pg_temp.other('05', n, 4, 12000) END,
    CASE WHEN pg_temp.pick(n, 5, 2) = 0 THEN pg_temp.other('01', n, 6, 129920) END,
    CASE WHEN pg_temp.pick(n, 7, 3) = 0 THEN pg_temp.other('08', n, 8, 89920) END,
    CASE WHEN pg_temp.pick(n, 9, 4) = 0 THEN pg_temp.other('09', n, 10, 32000) END,
    pg_temp.owner(n, 11), pg_temp.owner(n, 12),
    CASE WHEN n > 36000 AND pg_temp.pick(n, 13, 2) = 0 THEN 'planned' WHEN pg_temp.pick(n, 13, 30) = 1 THEN 'planned' WHEN pg_temp.pick(n, 13, 300) = 2 THEN 'no_show' ELSE 'completed' END, 'medium',
    pg_temp.at(n + 300), CASE WHEN pg_temp.pick(n, 14, 5) > 0 THEN pg_temp.at(n + 600) END, false, false, false, '{}',
    ARRAY['tag' || pg_temp.pick(n, 15, 5), 'rare' || pg_temp.pick(n, 16, 1000)]
FROM generate_series(0, 39999) AS n;

INSERT INTO crm.deal_stage_history (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    deal_id, to_stage_id, to_stage, to_probability)
SELECT pg_temp.tenant(n), pg_temp.key('0c', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    pg_temp.other('08', n, 1, 89920), pg_temp.key('04', n % 160), 'Stage 0', 10
FROM generate_series(0, 9999) AS n;

INSERT INTO crm.audit_events (tenant_id, id, version, created_at, created_by, created_by_id, updated_at,
    updated_by, updated_by_id, commit_id, event, category, object, record_id, record_version, changes)
SELECT pg_temp.tenant(n), pg_temp.key('0d', n), 1, pg_temp.at(n), 'user', pg_temp.owner(n, 1), pg_temp.at(n),
    'user', pg_temp.owner(n, 1), pg_temp.other('0e', n, 2, 40000), CASE WHEN pg_temp.pick(n, 3, 100) = 0 THEN 'delete' ELSE 'update' END, 'data_change', 'contact',
    pg_temp.other('01', n, 4, 16000), 1 + pg_temp.pick(n, 5, 9), '[]'
FROM generate_series(0, 39999) AS n;

INSERT INTO crm.duplicate_keys (tenant_id, id, version, created_at, created_by, updated_at, updated_by,
    rule_id, key, record_id)
SELECT pg_temp.tenant(n), pg_temp.key('0f', n), 1, pg_temp.at(n), 'system', pg_temp.at(n), 'system',
    pg_temp.key('11', n % 160), pg_temp.key('10', n - n % 320 + n % 160), pg_temp.key('01', n)
FROM generate_series(0, 129999) AS n;
ANALYZE;
