//! One certificate from plan to outcome.
