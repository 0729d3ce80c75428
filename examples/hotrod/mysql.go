package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
)

// mysql pretends to be a database that runs one query at a time, so that rides
// which are wanted together wait for each other, visibly.
type mysql struct {
	tracing *middleware.Tracing
	log     *slog.Logger
	queue   *queue
	rows    []customer
}

// queryTime is how long a query takes.
const queryTime = 300 * time.Millisecond

func newMySQL(ctx context.Context, tel *telemetry) (*mysql, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "mysql"})
	if err != nil {
		return nil, err
	}
	return &mysql{tracing: tracing, log: tel.log.With("service", "mysql"), queue: newQueue(), rows: []customer{
		{ID: "123", Name: "Linden Street Bakery", Location: "115,277"},
		{ID: "392", Name: "Harbour Books", Location: "577,322"},
		{ID: "567", Name: "Night Owl Diner", Location: "211,653"},
		{ID: "731", Name: "Old Mill Theatre", Location: "728,326"},
	}}, nil
}

// customer returns the customer with this id; false when there is none.
func (m *mysql) customer(ctx context.Context, id string) (c customer, found bool, err error) {
	ctx, call := m.tracing.StartClient(ctx, middleware.Outgoing{
		Name: "SQL SELECT",
		Kind: trace.SpanKindClient,
		Attributes: []attribute.KeyValue{
			semconv.DBSystemNameMySQL,
			semconv.DBNamespace("rides"),
			semconv.DBOperationName("SELECT"),
			semconv.DBCollectionName("customer"),
			semconv.DBQueryText("SELECT id, name, location FROM customer WHERE id = ?"),
		},
	})
	defer func() { call.End(middleware.Outcome{Err: err}) }()

	// The frontend put these into the baggage, and no service in between had to
	// know of them.
	bag := baggage.FromContext(ctx)
	for _, key := range []string{"customer", "session", "request"} {
		call.Span().SetAttributes(attribute.String(key, bag.Member(key).Value()))
	}

	request := bag.Member("request").Value()
	ahead := m.queue.join(request)
	defer m.queue.leave(request)
	call.Span().SetAttributes(attribute.Int("mysql.queue.ahead", len(ahead)))
	if len(ahead) > 0 {
		call.Span().AddEvent("waiting for other queries", trace.WithAttributes(attribute.StringSlice("requests", ahead)))
		m.log.InfoContext(ctx, "waiting for other queries", "requests", ahead)
	}
	if err := m.queue.wait(ctx); err != nil {
		return c, false, err
	}
	defer m.queue.next()
	if len(ahead) > 0 {
		call.Span().AddEvent("the query runs")
	}

	if err := work(ctx, queryTime); err != nil {
		return c, false, err
	}
	i := slices.IndexFunc(m.rows, func(c customer) bool { return c.ID == id })
	if i < 0 {
		return c, false, nil
	}
	return m.rows[i], true, nil
}

// ids names the customers.
func (m *mysql) ids() (ids []string) {
	for _, c := range m.rows {
		ids = append(ids, c.ID)
	}
	return ids
}

// queue is a lock that can be given up on, and that knows who stands in line.
type queue struct {
	turn  chan struct{} // holds one value while nobody has the lock
	mu    sync.Mutex
	names []string
}

func newQueue() *queue {
	q := &queue{turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	return q
}

// join puts name into the line and returns who is there already.
func (q *queue) join(name string) (ahead []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ahead = slices.Clone(q.names)
	q.names = append(q.names, name)
	return ahead
}

// leave takes name out of the line.
func (q *queue) leave(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.names, name); i >= 0 {
		q.names = slices.Delete(q.names, i, i+1)
	}
}

// wait returns once it is the caller's turn, who then must call next, or with the
// error of ctx.
func (q *queue) wait(ctx context.Context) error {
	select {
	case <-q.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) next() { q.turn <- struct{}{} }
