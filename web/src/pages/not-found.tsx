import { Link } from "wouter-preact";
import { texts } from "../texts";
import { Empty, PageHead } from "../ui/parts";

export function NotFound() {
  return (
    <>
      <PageHead title={texts.notFound.title} />
      <Empty title={texts.notFound.hint}>
        <Link href="/" class="button">
          {texts.notFound.back}
        </Link>
      </Empty>
    </>
  );
}
