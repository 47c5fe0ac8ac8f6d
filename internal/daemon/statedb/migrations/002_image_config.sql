-- What an image says of the processes that run in it, as JSON (vm.ImageConfig), and
-- a VM's copy of it; '' for an image that says nothing.
ALTER TABLE images ADD COLUMN config TEXT NOT NULL DEFAULT '';
ALTER TABLE vms ADD COLUMN config TEXT NOT NULL DEFAULT '';
