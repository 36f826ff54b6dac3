"""Many requests and time: admission, fair queues, worker threads, and one file's way through them."""
