// The AWS Encryption SDK for JavaScript: one JSON request a line on standard input, one answer a line.

const readline = require("node:readline");
const { CommitmentPolicy, KmsKeyringNode, buildClient } = require("@aws-crypto/client-node");

async function answer({ operation, suite, keys, context, frame, data }) {
  const source = Buffer.from(data, "base64");
  if (operation === "encrypt") {
    const [generatorKeyId, ...keyIds] = keys;
    const policy =
      suite < 0x0400 ? CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT : CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT;
    const { result } = await buildClient(policy).encrypt(new KmsKeyringNode({ generatorKeyId, keyIds }), source, {
      suiteId: suite,
      encryptionContext: context,
      frameLength: frame,
    });
    return { data: result.toString("base64") };
  }
  const { plaintext, messageHeader } = await buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT).decrypt(
    new KmsKeyringNode({ keyIds: keys }),
    source,
  );
  return { data: plaintext.toString("base64"), context: { ...messageHeader.encryptionContext } };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      console.log(JSON.stringify(await answer(JSON.parse(line))));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  }
}

main();
