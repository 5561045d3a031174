"""PostgreSQL itself: connections, names, catalog facts, transaction ids, DDL and COPY. No word of replication."""
