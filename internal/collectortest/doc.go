// Package collectortest is a collector for tests: it speaks OTLP/HTTP and OTLP/gRPC on
// one loopback port, keeps a ledger of every span id that reached it, and misbehaves
// when told to.
//
//	c := collectortest.Start(t)
//	c.Set(collectortest.Fault{Hang: true, Requests: 1})
//	exp, err := exporter.New(exporter.Config{Endpoint: c.URL()})
//	… // end a thousand spans
//	c.Wait(1000)
//	if n := c.Duplicates(); n > 0 {
//		t.Errorf("%d spans came twice", n)
//	}
//
// A span is recorded when the collector takes it, so that unique plus rejected is what
// an exporter may call delivered and rejected. A fault with Recorded set takes the
// spans and then fails, as a collector does whose acknowledgement is lost.
//
// It runs until the test ends, on goroutines that are gone by then.
package collectortest
