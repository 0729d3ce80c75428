// Package w3ctest holds meshtrace against the cases of W3C's validation service for
// Trace Context, Level 2 and strict, and of W3C Baggage.
//
// W3C tests a program from outside: it posts to the program a list of calls to make,
// with trace headers of every kind, and looks at the headers of the calls that come
// back. [Service] is such a program, with nothing in it but meshtrace and net/http.
// The tests of this package do what the harness does, over sockets and with header
// lines as they are written in the tables: their order, repetition, white space and
// spelling reach the service unchanged.
//
//	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "w3ctest"})
//	...
//	service := w3ctest.NewService(tracing)
//	defer service.Close()
//	http.Serve(listener, tracing.Handler(service))
//
// # Terms
//
// A row of a table names the W3C test it restates, the clause of the specification,
// the header lines and what the calls must carry. Expectations are those of the
// specification; where it leaves a choice the row lists what is right. Rows without a
// W3C test stand for clauses that the harness does not reach. Each row with a
// {flags} runs once for a caller that samples and once for one that does not.
//
// # The harness itself
//
// With a checkout of github.com/w3c/trace-context and Python's aiohttp:
//
//	go run ./internal/w3ctest/service -listen 127.0.0.1:5000
//	cd trace-context/test && SPEC_LEVEL=2 STRICT_LEVEL=2 python3 test.py http://127.0.0.1:5000/test
//
// # Limits
//
// The service calls what it is told to call, loopback addresses alone. It is for
// tests. Baggage has no harness, only a model with tests of its parser; the rows
// named for these tests send the same kinds of header through a service.
package w3ctest
