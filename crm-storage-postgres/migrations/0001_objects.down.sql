-- Made from the schemas of the objects, and frozen once released: then changes are a new file.

DROP TABLE
    "crm"."member_values",
    "crm"."audit_events",
    "crm"."export_jobs",
    "crm"."duplicate_keys",
    "crm"."duplicate_rules",
    "crm"."import_rows",
    "crm"."import_jobs",
    "crm"."import_mappings",
    "crm"."activities",
    "crm"."leads",
    "crm"."deal_stage_history",
    "crm"."deals",
    "crm"."pipeline_stages",
    "crm"."pipelines",
    "crm"."contacts",
    "crm"."accounts",
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
