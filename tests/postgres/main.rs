//! What only a PostgreSQL server can show.

mod custom_plans;
mod custom_scale;
mod differential;
mod import_crash;
mod join;
mod kill;
