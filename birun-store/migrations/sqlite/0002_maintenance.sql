-- Servers that executions leave out.
ALTER TABLE birun_servers ADD COLUMN maintenance INTEGER NOT NULL DEFAULT 0 CHECK (maintenance IN (0, 1));
