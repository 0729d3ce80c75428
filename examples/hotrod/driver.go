package main

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/examples/hotrod/driverpb"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
)

// driver is the driver service: it knows who is near.
type driver struct {
	driverpb.UnimplementedDriverServer
	redis *redis
	log   *slog.Logger
}

// newDriver returns a gRPC server with the driver service.
func newDriver(ctx context.Context, tel *telemetry) (*grpc.Server, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "driver"})
	if err != nil {
		return nil, err
	}
	store, err := newRedis(ctx, tel)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	driverpb.RegisterDriverServer(server, &driver{redis: store, log: tel.log.With("service", "driver")})
	return server, nil
}

// lookups is how often a driver is looked up before the service gives up.
const lookups = 10

// FindNearest returns the drivers near a place.
func (d *driver) FindNearest(ctx context.Context, in *driverpb.FindNearestRequest) (*driverpb.FindNearestResponse, error) {
	if _, ok := parsePlace(in.GetLocation()); !ok {
		return nil, status.Error(codes.InvalidArgument, "a location is x,y with numbers from 0 to 999")
	}
	d.log.InfoContext(ctx, "looking for drivers", "location", in.GetLocation())
	ids, err := d.redis.findDriverIDs(ctx, in.GetLocation())
	if err != nil {
		return nil, status.FromContextError(err).Err()
	}
	out := new(driverpb.FindNearestResponse)
	for _, id := range ids {
		c, err := d.lookUp(ctx, id)
		if err != nil {
			return nil, status.FromContextError(err).Err()
		}
		out.Candidates = append(out.Candidates, c)
	}
	d.log.InfoContext(ctx, "found drivers", "drivers", len(ids))
	return out, nil
}

// lookUp asks redis until it answers.
func (d *driver) lookUp(ctx context.Context, id string) (c *driverpb.Candidate, err error) {
	for attempt := range lookups {
		c, err = d.redis.getDriver(ctx, id)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		d.log.WarnContext(ctx, "trying again", "driver", id, "attempt", attempt+1, "error", err)
	}
	return nil, err
}
