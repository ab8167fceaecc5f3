//! Leads, scoring, conversion, deals, pipelines, forecasting.

mod analytics;
mod automation;
#[path = "../common/mod.rs"]
mod common;
mod conversion;
mod currencies;
mod custom_fields;
mod deal_lines;
mod deal_people;
mod deal_statistics;
mod forecasts;
mod leads;
mod sales_interplay;
mod scoring;
mod stages;
