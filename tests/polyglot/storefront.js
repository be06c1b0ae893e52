// A Node backend that reads the .proto files itself: it searches, and streams an import.
// Usage: node storefront.js ADDRESS PROTO_DIR

const assert = require('node:assert');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, protos] = process.argv.slice(2);
const load = (file) => grpc.loadPackageDefinition(loader.loadSync(path.join('vitrine/v1', file), {
  includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
})).vitrine.v1;
const credentials = grpc.credentials.createInsecure();
const shop = new (load('storefront.proto').StorefrontService)(address, credentials);
const catalogs = new (load('catalog.proto').CatalogService)(address, credentials);
const call = (client, method, request) => new Promise((resolve, reject) =>
  client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))));

async function main() {
  const parent = 'catalogs/node';
  await call(catalogs, 'CreateCatalog', { name: parent });
  await call(catalogs, 'UpsertItems', { parent, items: [{ id: 'B07', title: 'Trail shoe' }, { id: 'B08', title: 'Sandal' }] });
  const request = { context: { catalog: parent, visitor_id: 'v1' }, text: 'trial shoe', mode: 'SEARCH_MODE_LEXICAL' };
  let answer = await call(shop, 'Search', request);
  while (answer.results.length === 0) answer = await call(shop, 'Search', request); // shows within a second
  assert.strictEqual(answer.results[0].item.id, 'B07');
  assert.strictEqual(answer.corrected_query, 'trail shoe');
  await assert.rejects(call(shop, 'Search', { context: { catalog: 'catalogs/none' }, text: 'shoe' }),
    (error) => error.code === grpc.status.NOT_FOUND && error.details.includes('catalogs/none'));
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
