//! The SQL reports: views named `report_…`, for people and their tools.
//!
//! ```text
//!   reports/NAME.sql ──► Report (this catalogue) ──► made at every start by crate::schema
//!                            │                        └► granted to `grid_report` (role)
//!                            └► query: rows as text, or CSV as the database writes it
//! ```
//!
//! A view's file also holds the comments of the view and of its columns: what they say is what a
//! reader in `psql` sees. Columns named `event_id` and `auction_id` mean the same everywhere.
//!
//! What it deliberately does not do: cache or precompute. Every report is a plain view, so it is as
//! fresh as the tables.

mod catalogue;
mod query;
mod role;

pub use catalogue::{Chart, REPORTS, Report};
pub use query::{
    ColumnKind, REPORT_ROWS_MAX, ReportColumn, ReportError, ReportTable, Selection, run, write_csv,
};
pub use role::{REPORT_ROLE, RoleState};
pub(crate) use role::{ensure_role, grant_views};
