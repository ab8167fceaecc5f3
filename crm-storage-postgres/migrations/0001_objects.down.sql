-- Made from the schemas of the objects, and frozen once released: then changes are a new file.

DROP TABLE
    "crm"."audit_events",
    "crm"."duplicate_keys",
    "crm"."duplicate_rules",
    "crm"."import_rows",
    "crm"."import_jobs",
    "crm"."import_mappings",
    "crm"."export_jobs",
    "crm"."activity_roll_ups",
    "crm"."activity_reminders",
    "crm"."activity_templates",
    "crm"."activity_participants",
    "crm"."merge_links",
    "crm"."merges",
    "crm"."followers",
    "crm"."mentions",
    "crm"."comments",
    "crm"."activities",
    "crm"."activity_series",
    "crm"."consents",
    "crm"."lead_scoring_history",
    "crm"."lead_scoring_rules",
    "crm"."lead_scoring_rule_sets",
    "crm"."campaign_members",
    "crm"."lead_assignment_states",
    "crm"."lead_assignees",
    "crm"."lead_assignment_rules",
    "crm"."lead_conversion_mappings",
    "crm"."lead_conversions",
    "crm"."leads",
    "crm"."automation_executions",
    "crm"."pipeline_automation_rules",
    "crm"."close_reasons",
    "crm"."deal_competitors",
    "crm"."deal_contacts",
    "crm"."stage_approvals",
    "crm"."quotas",
    "crm"."forecast_adjustments",
    "crm"."deal_forecasts",
    "crm"."deal_states",
    "crm"."pipeline_analytics",
    "crm"."deal_products",
    "crm"."deal_stage_history",
    "crm"."deals",
    "crm"."product_prices",
    "crm"."products",
    "crm"."exchange_rates",
    "crm"."pipeline_stages",
    "crm"."pipelines",
    "crm"."campaigns",
    "crm"."contact_affiliations",
    "crm"."contact_relationships",
    "crm"."contacts",
    "crm"."accounts",
    "crm"."territories",
    "crm"."team_members",
    "crm"."teams",
    "crm"."users",
    "crm"."tenant_configurations",
    "crm"."tenants";

DROP FUNCTION "crm".referred;
DROP FUNCTION "crm".refuse;
DROP FUNCTION "crm".tagged;
DROP FUNCTION "crm".search;
DROP FUNCTION "crm".search_text;
DROP FUNCTION "crm".fold_case;

REVOKE USAGE ON SCHEMA "crm" FROM "crm_app";
REVOKE USAGE ON SCHEMA "crm" FROM "crm_search";
