"""The microservice: one model behind REST, a scheduler that shares it fairly, and a command line."""
