"""The request log: a list with filters, figures, reloads, context sizes. docs/requests.md says what each shows."""
