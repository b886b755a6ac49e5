//! Leases and checkpoints on DynamoDB.
