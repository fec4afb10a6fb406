"""Device drivers: everything that turns a device, a file or a simulation into `Chunk`s."""
