"""A Python backend with a client generated from proto/: it stocks a shop, searches, tells what was bought, and is
recommended something. Usage: storefront.py ADDRESS"""

import sys

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from vitrine.v1 import catalog_pb2, catalog_pb2_grpc, common_pb2, storefront_pb2, storefront_pb2_grpc

CATALOG = "catalogs/python"

channel = grpc.insecure_channel(sys.argv[1])
catalogs = catalog_pb2_grpc.CatalogServiceStub(channel)
shop = storefront_pb2_grpc.StorefrontServiceStub(channel)

catalogs.CreateCatalog(catalog_pb2.CreateCatalogRequest(name=CATALOG))
items = [
    common_pb2.Item(id="B07", title="Trail shoe", price=common_pb2.Money(amount="89.90", currency="EUR")),
    common_pb2.Item(id="B08", title="Leather sandal", attributes={"colour": ["brown", "black"]}),
]
catalogs.UpsertItems(catalog_pb2.UpsertItemsRequest(parent=CATALOG, items=items))

context = common_pb2.RequestContext(catalog=CATALOG, user_id="ü1")
request = storefront_pb2.SearchRequest(context=context, text="shoes", mode=storefront_pb2.SEARCH_MODE_LEXICAL)
found = shop.Search(request, wait_for_ready=True, timeout=10)
while not found.results:  # what was written shows within a second
    found = shop.Search(request, timeout=10)
assert [result.item.id for result in found.results] == ["B07"], found

event = common_pb2.Event(
    event_id="e-1",
    type=common_pb2.EVENT_TYPE_PURCHASE,
    user_id="ü1",
    items=[common_pb2.EventItem(id="B07", quantity=1)],
    attribution_token=found.attribution_token,
)
answer = shop.Feedback(storefront_pb2.FeedbackRequest(catalog=CATALOG, events=[event]))
assert answer.results[0].attributed, answer

answer = shop.Recommend(storefront_pb2.RecommendRequest(context=context, popular=storefront_pb2.Popular()))
assert [result.item.id for result in answer.results] == ["B07"], answer

described = ProtoReflectionDescriptorDatabase(channel)
assert {"vitrine.v1.StorefrontService", "inference.GRPCInferenceService"} <= set(described.get_services())
search = described.FindFileContainingSymbol("vitrine.v1.StorefrontService.Search")
assert search.name == "vitrine/v1/storefront.proto", search.name

try:
    shop.Search(storefront_pb2.SearchRequest(context=context, text="shoe", page_size=-1))
    raise AssertionError("a negative page size was taken")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert "page_size" in error.details(), error
