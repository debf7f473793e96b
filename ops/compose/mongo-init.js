// Initiate the replica set of one and make the service's user: readWrite on its database and on that of the
// history, clusterMonitor for the server's connection counts. Run again, it changes the user alone.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();

const mongo = new Mongo(`mongodb://root:${encodeURIComponent(secret("mongo_root_password"))}@mongo:27017/?directConnection=true`);
const admin = mongo.getDB("admin");

try {
  admin.runCommand({ replSetInitiate: { _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] } });
} catch (error) {
  if (error.codeName !== "AlreadyInitialized") throw error;
}

const deadline = Date.now() + 30000;
while (!admin.runCommand({ hello: 1 }).isWritablePrimary) {
  if (Date.now() > deadline) throw new Error("the replica set has no primary after 30 s");
  sleep(200);
}

const app = mongo.getDB("app");
const roles = [
  { role: "readWrite", db: "app" },
  { role: "readWrite", db: "celery_pymongo" },
  { role: "clusterMonitor", db: "admin" },
];
const user = { pwd: secret("mongo_user_password"), roles };
if (app.getUser("worker")) app.updateUser("worker", user);
else app.createUser({ user: "worker", ...user });
print("replica set and user are ready");
