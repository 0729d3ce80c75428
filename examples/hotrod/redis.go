package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/examples/hotrod/driverpb"
	"github.com/meshtrace/meshtrace/middleware"
)

// redis pretends to be a store of where the drivers are. Every fifth lookup times
// out.
type redis struct {
	tracing *middleware.Tracing
	log     *slog.Logger
	lookups atomic.Uint64
}

const (
	nearby      = 10 // drivers found
	findTime    = 20 * time.Millisecond
	getTime     = 10 * time.Millisecond
	timeoutTime = 30 * time.Millisecond
)

var errTimeout = errors.New("redis timed out")

func newRedis(ctx context.Context, tel *telemetry) (*redis, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "redis"})
	if err != nil {
		return nil, err
	}
	return &redis{tracing: tracing, log: tel.log.With("service", "redis")}, nil
}

// findDriverIDs returns the licence plates of the drivers near a place.
func (r *redis) findDriverIDs(ctx context.Context, location string) (ids []string, err error) {
	ctx, call := r.start(ctx, "FindDriverIDs", "GEOSEARCH", attribute.String("location", location))
	defer func() { call.End(middleware.Outcome{Err: err}) }()

	if err := work(ctx, findTime); err != nil {
		return nil, err
	}
	first := rand.IntN(9000)
	for i := range nearby {
		ids = append(ids, fmt.Sprintf("HR-%d", 1000+(first+97*i)%9000))
	}
	r.log.InfoContext(ctx, "found driver ids", "ids", ids)
	return ids, nil
}

// getDriver returns where the driver is. The error is errTimeout, or that of ctx.
func (r *redis) getDriver(ctx context.Context, id string) (c *driverpb.Candidate, err error) {
	ctx, call := r.start(ctx, "GetDriver", "HGET", attribute.String("driver", id))
	defer func() { call.End(middleware.Outcome{Err: err}) }()

	if r.lookups.Add(1)%5 == 0 {
		if err := work(ctx, timeoutTime); err != nil {
			return nil, err
		}
		return nil, errTimeout
	}
	if err := work(ctx, getTime); err != nil {
		return nil, err
	}
	at := place{x: rand.IntN(1000), y: rand.IntN(1000)}
	return &driverpb.Candidate{Driver: id, Location: at.String()}, nil
}

// start starts the span of one call to the store.
func (r *redis) start(ctx context.Context, name, command string, about attribute.KeyValue) (context.Context, *middleware.Call) {
	return r.tracing.StartClient(ctx, middleware.Outgoing{
		Name:       name,
		Kind:       trace.SpanKindClient,
		Attributes: []attribute.KeyValue{semconv.DBSystemNameRedis, semconv.DBOperationName(command), about},
	})
}
