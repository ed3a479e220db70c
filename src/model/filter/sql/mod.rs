//! The SQL92 filter of a subscription: a condition over a message's user properties.
//!
//! * Source: contract §13.5, contract §26, and RocketMQ's grammar: `AND`, `OR`, `NOT`, `=`, `<>`, `<`, `<=`, `>`, `>=`,
//!   `[NOT] BETWEEN … AND …`, `[NOT] IN (…)`, `IS [NOT] NULL`, `[NOT] CONTAINS|STARTSWITH|ENDSWITH`, texts in single quotes,
//!   numbers, `TRUE`, `FALSE`. `TAGS` is the message's tag.
//! * A property that is missing is NULL, and a comparison with NULL is NULL: only TRUE matches.
//! * Properties are texts. Compared with a number or a truth value they are read as one, and are NULL if they are none.
//! * Whole numbers have 64 bits and compare exactly, also with decimals; decimals are 64-bit floating-point numbers
//!   (RocketMQ: `long` and `double`).
//!
//! Bounded by `DEPTH_MAX` and `NODES_MAX`; the caller bounds the text.
//!
//! A `filter` is made of a text: it becomes `tokens`, the `parser` makes a `condition` of them, and that is asked about messages; `number` compares.

mod condition;
mod filter;
mod number;
mod parser;
#[cfg(test)]
mod tests;
mod tokens;
mod wrong;

pub use filter::SqlFilter;
pub use wrong::SqlError;
