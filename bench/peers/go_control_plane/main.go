// A delta ADS server made of go-control-plane, for `script/bench fanout`: the same set, the same change, the
// same mTLS as bench/fanout_server.py. Says its port on a line, then makes one change for every line it reads.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	services  = 20
	endpoints = 20
	view      = "edge"
)

// oneView gives every node the same snapshot, as hosts of one view have.
type oneView struct{}

func (oneView) ID(*core.Node) string { return view }

func assignment(name string, firstPort uint32) types.Resource {
	locality := &endpoint.LocalityLbEndpoints{Locality: &core.Locality{Region: "local"}}
	for port := firstPort; port < firstPort+endpoints; port++ {
		address := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}}}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address}}})
	}
	return &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{locality}}
}

func snapshot(number int) *cache.Snapshot {
	var clusters, assignments []types.Resource
	for n := 0; n < services; n++ {
		name, port := fmt.Sprintf("s%d", n), uint32(1000)
		if n == 0 {
			port = 2000 + uint32(number%2)
		}
		ads := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3,
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
		clusters = append(clusters, &cluster.Cluster{Name: name, ConnectTimeout: durationpb.New(time.Second),
			ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads}})
		assignments = append(assignments, assignment(name, port))
	}
	made, err := cache.NewSnapshot(fmt.Sprint(number), map[resource.Type][]types.Resource{
		resource.ClusterType: clusters, resource.EndpointType: assignments})
	check(err)
	return made
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func mutual(pki string) credentials.TransportCredentials {
	own := filepath.Join(pki, "control1")
	pair, err := tls.LoadX509KeyPair(filepath.Join(own, "host.crt"), filepath.Join(own, "host.key"))
	check(err)
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})
}

func main() {
	ctx := context.Background()
	snapshots := cache.NewSnapshotCache(true, oneView{}, nil)
	check(snapshots.SetSnapshot(ctx, view, snapshot(0)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	grpcServer := grpc.NewServer(grpc.Creds(mutual(os.Args[1])), grpc.MaxConcurrentStreams(10000))
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(ctx, snapshots, nil))
	go func() { check(grpcServer.Serve(listener)) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for number, lines := 1, bufio.NewScanner(os.Stdin); lines.Scan(); number++ {
		check(snapshots.SetSnapshot(ctx, view, snapshot(number)))
	}
}
